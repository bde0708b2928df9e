//go:build unix

package observe

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// readProcess asks the system about this process. Memory and descriptors come from /proc where there is one.
func readProcess() processStats {
	p := processStats{cpu: -1, resident: -1, fds: -1, maxFDs: -1}
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		p.cpu = float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
	}
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil {
		p.maxFDs = float64(lim.Cur)
	}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			if pages, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				p.resident = float64(pages) * float64(os.Getpagesize())
			}
		}
	}
	if n, ok := countFDs(); ok {
		p.fds = float64(n)
	}
	return p
}

// countFDs counts the entries of /proc/self/fd. Since Linux 6.2 the size of that folder is their number, which spares
// reading a million names; before, it is 0.
func countFDs() (int64, bool) {
	fi, err := os.Stat("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	if n := fi.Size(); n > 0 {
		return n, true
	}
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	defer func() { _ = d.Close() }() // opened for reading: nothing can be lost
	var n int64
	for {
		names, err := d.Readdirnames(4096)
		n += int64(len(names))
		if err != nil || len(names) == 0 {
			return n - 1, true // without the one that reads
		}
	}
}
