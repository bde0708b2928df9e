//go:build !unix

package observe

func readProcess() processStats { return processStats{cpu: -1, resident: -1, fds: -1, maxFDs: -1} }
