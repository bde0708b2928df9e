package wire

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vectorDir holds the raw packets of Mosquitto's test suite where the project's shared material is at hand.
const vectorDir = "../../../../../shared/conformance/mqtt/vectors"

type vectorGroup struct {
	Group string
	Tests []struct {
		Name       string
		Ver        Version
		Connect    *bool
		Disconnect *bool `json:"expect_disconnect"`
		Msgs       []struct {
			Type    string
			Payload string
		}
	}
	Disable bool
}

// fate is what the codec and the few rules that need no session say about one packet of a client: nil when it stands.
func fate(d *Decoder, v *Version, connected *bool, first byte, body []byte) error {
	k := KindOf(first)
	if !*connected {
		if k != CONNECT {
			return ErrKind
		}
		var c Connect
		if err := d.Connect(body, &c); err != nil {
			return err
		}
		*connected, *v = true, c.Version
		return CheckFlagsOf(c.Version, first)
	}
	if k == CONNECT || !k.FromClient(*v) {
		return ErrKind
	}
	if err := CheckFlagsOf(*v, first); err != nil {
		return err
	}
	switch k {
	case PUBLISH:
		return d.Publish(*v, first, body, &Publish{})
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return d.Ack(*v, k, body, &Ack{})
	case SUBSCRIBE:
		return d.Subscribe(*v, body, &Subscribe{})
	case UNSUBSCRIBE:
		return d.Unsubscribe(*v, body, &Unsubscribe{})
	case PINGREQ:
		return CheckEmpty(body)
	case DISCONNECT:
		return d.Disconnect(*v, body, &Disconnect{})
	case AUTH:
		return d.Auth(body, &Auth{})
	}
	return nil
}

// TestVectors holds the codec's verdict against every raw vector. A vector that must end the connection although all
// its packets are right is one for the session; sessionDecides names those, so that none slips in unseen.
func TestVectors(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(vectorDir, "*.json"))
	if len(files) == 0 {
		t.Skip("SKIPPED: the shared conformance vectors are not at " + vectorDir)
	}
	agreed, other := 0, 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var groups []vectorGroup
		if err := json.Unmarshal(data, &groups); err != nil {
			t.Fatalf("read %s: %v", file, err)
		}
		for _, g := range groups {
			if g.Disable {
				continue
			}
			for _, v := range g.Tests {
				name := strings.Join(strings.Fields(g.Group+" | "+v.Name), " ")
				version := v.Ver
				if version == 0 {
					version = V311
				}
				connected := v.Connect == nil || *v.Connect
				closes := v.Disconnect == nil || *v.Disconnect
				var d Decoder
				var refused error
				left := false
				for _, m := range v.Msgs {
					if m.Type != "send" || refused != nil {
						continue
					}
					b, err := hex.DecodeString(strings.ReplaceAll(m.Payload, " ", ""))
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					for len(b) > 0 && refused == nil {
						first, body, n, err := Next(b, 0)
						if err == nil && n == 0 {
							// The server waits for the rest of the packet: nothing to refuse yet.
							left = true
							break
						}
						if refused = err; refused == nil {
							refused = fate(&d, &version, &connected, first, body)
							left = left || KindOf(first) == DISCONNECT
							b = b[n:]
						}
					}
				}
				switch {
				case !closes && refused != nil:
					t.Errorf("%s: refused (%v), must be taken", name, refused)
				case closes == (refused != nil) || left:
					agreed++
				default:
					other++
					if !sessionDecides(name) {
						t.Errorf("%s: taken, must be refused", name)
					}
				}
			}
		}
	}
	t.Logf("%d vectors agree, %d are for the session to decide", agreed, other)
}

// sessionDecides names what no single packet tells: a reply bound that is too small to answer, an authentication method
// that is not offered, an acknowledgement of the wrong kind, an alias over the announced maximum.
func sessionDecides(name string) bool {
	for _, s := range []string{
		"| tiny max packet", "| unsupported authentication method", "FLOW | QoS 1 PUBLISH-", "FLOW | QoS 2 PUBLISH-",
		"| topic alias > max",
	} {
		if strings.Contains(name, s) {
			return true
		}
	}
	return false
}
