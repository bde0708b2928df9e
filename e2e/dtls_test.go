package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/e2e/need"
)

// TestConformanceCoAPOverDTLS drives a node with libcoap's coap-client over DTLS with a pre-shared key, on top of OpenSSL and of
// GnuTLS: each is a DTLS end that shares no code with ours. All cases must pass, a refused wrong key among them.
func TestConformanceCoAPOverDTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	suite := need.Suite(t, "coap")
	const id, key = "pump-7", "0123456789abcdef"
	for _, lib := range []string{"openssl", "gnutls"} {
		t.Run(lib, func(t *testing.T) {
			t.Parallel()
			client := need.Program(t, "coap-client-"+lib)
			dir := t.TempDir()
			w := newWorld(t, dir, build(t))
			t.Cleanup(w.end)
			port, err := freePort()
			if err != nil {
				t.Fatal(err)
			}
			conf := fmt.Sprintf(`windrose: v1
node: { name: n1, data: data }
secrets: { keys: { file: %s } }
auth: [ { psk: {} } ]
listeners:
  coaps: { coap: { bind: "127.0.0.1:%s", transport: dtls, psk: { secret: keys } } }
`, filepath.Join(dir, "keys"), port)
			for name, text := range map[string]string{"windrose.yaml": conf, "keys": fmt.Sprintf("%s:%x\n", id, key)} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := w.start("node", append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66"), dir, filepath.Join(w.bin, "windrose"), "run", "-c", "windrose.yaml")
			if err != nil {
				t.Fatal(err)
			}
			p.ours = true
			t.Cleanup(func() {
				if err := p.stop(syscall.SIGTERM, patience); err != nil {
					t.Error(err)
				}
				if err := p.check(); err != nil {
					t.Error(err)
				}
			})
			uri := "coaps://127.0.0.1:" + port + "/ps/c/"
			if err := until(patience, func() error {
				out, err := exec.Command(client, "-B", "2", "-u", id, "-k", key, "-m", "put", "-t", "0", "-e", "seed", uri+"get").CombinedOutput()
				if err == nil {
					out, err = exec.Command(client, "-B", "2", "-u", id, "-k", key, "-m", "get", uri+"get").CombinedOutput()
				}
				if err != nil || !strings.Contains(string(out), "seed") {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			var out []byte
			for range 3 { // the script has time limits of its own, and machines are busy
				began := time.Now()
				out, _ = exec.Command("bash", filepath.Join(suite, "drive_coap_client.sh"), "127.0.0.1", "TLSLIB="+lib, "DTLS="+port, "PSK_ID="+id, "PSK_KEY="+key,
					"GET=ps/c/get", "PUT=ps/c/put", "OBS=ps/c/obs", "OBSPUT=1").CombinedOutput()
				if strings.Contains(string(out), "\n9 passed, 0 failed") {
					t.Logf("9 passed in %v", time.Since(began).Round(time.Second))
					return
				}
			}
			t.Errorf("%s", out)
		})
	}
}
