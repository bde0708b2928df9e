package identity

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPSKTable(t *testing.T) {
	const key = "00112233445566778899aabbccddeeff"
	path := filepath.Join(t.TempDir(), "psk.csv")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# fleet\n\npump-7:" + key + "\r\nurn:dev:1:" + strings.ToUpper(key) + "\n")
	tab, err := LoadPSK(path)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := tab.Lookup("urn:dev:1"); !ok || k[1] != 0x11 || len(k) != 16 || tab.Len() != 2 {
		t.Errorf("Lookup = %x, %t of %d", k, ok, tab.Len())
	}
	if _, ok := tab.Lookup("urn"); ok {
		t.Error("found a part of an identity")
	}
	write("pump-8:zz\n")
	if err := tab.Reload(); err == nil || tab.Len() != 2 {
		t.Errorf("a broken file: %v, %d left", err, tab.Len())
	}
	write("pump-8:" + key)
	if err := tab.Reload(); err != nil || tab.Len() != 1 {
		t.Errorf("reload: %v, %d", err, tab.Len())
	}
	for name, s := range map[string]string{
		"no colon":   "pump\n",
		"odd":        "pump:" + key + "f\n",
		"short":      "pump:0011\n",
		"long":       "pump:" + strings.Repeat(key, 5) + "\n",
		"no name":    ":" + key + "\n",
		"long name":  strings.Repeat("x", 129) + ":" + key + "\n",
		"control":    "a\x01:" + key + "\n",
		"twice":      "a:" + key + "\na:" + key + "\n",
		"not a line": key,
	} {
		_, err := ParsePSK("psk.csv", []byte("# one\n"+s))
		if err == nil || !strings.HasPrefix(err.Error(), "psk.csv:") || strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPSKAuthenticator(t *testing.T) {
	p, err := NewPSK(PSKSpec{Client: "identity", Listener: "coap"})
	if err != nil {
		t.Fatal(err)
	}
	who, d, _ := p.Authenticate(t.Context(), &Credentials{Listener: "coap", PSKIdentity: "pump"})
	if d != Admitted || who.Name != "pump" || who.Client != "pump" {
		t.Errorf("%+v, %s", who, d)
	}
	for _, c := range []Credentials{{Listener: "coap"}, {Listener: "x", PSKIdentity: "pump"}, {Listener: "coap", PSKIdentity: "a\x00"}} {
		if _, d, _ := p.Authenticate(t.Context(), &c); d != Unknown {
			t.Errorf("%+v: %s", c, d)
		}
	}
	if _, err := NewPSK(PSKSpec{Client: "cert.cn"}); err == nil {
		t.Error("no error for an unknown word")
	}
}

func FuzzPSK(f *testing.F) {
	f.Add([]byte("# x\npump:00112233445566778899aabbccddeeff\n"))
	f.Add([]byte("a:b:0011223344556677\n:\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, err := ParsePSK("f", b)
		if err != nil {
			if len(err.Error()) > 200 {
				t.Fatalf("error quotes the file: %d bytes", len(err.Error()))
			}
			return
		}
		for id, k := range *tab.keys.Load() {
			if id == "" || len(k) < minPSKKey || len(k) > maxPSKKey || !bytes.Contains(b, []byte(id)) {
				t.Fatalf("accepted %q with %d bytes", id, len(k))
			}
		}
	})
}
