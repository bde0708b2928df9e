package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// The users file:
//
//	users:
//	  - name: pump-7
//	    password: "$argon2id$v=19$m=19456,t=2,p=1$salt$key"
//	    scram-sha-256: "SCRAM-SHA-256$4096:salt$stored:server"
//	    attrs: { tenant: acme }
//	seed: base64
//
// A user has a password, a SCRAM verifier, or both. seed keeps what is answered for names that do not exist the same over
// restarts and the same on all nodes that share the file; without one it is random and lives as long as the process.

// maxUsersFile bounds the file, in bytes: about 200,000 users.
const maxUsersFile = 64 << 20

const seedLen = 32

// table is one reading of a users file. Immutable after New.
type table struct {
	records []*record // in the order of the file
	byName  map[string]*record
	seed    []byte
	scrams  []*record // those with a SCRAM verifier
	nobody  *record   // what is verified for an unknown name while there are no users
}

func newTable(records []*record, seed []byte) *table {
	t := &table{records: records, byName: make(map[string]*record, len(records)), seed: seed}
	if len(t.seed) == 0 {
		t.seed = make([]byte, seedLen)
		_, _ = rand.Read(t.seed)
	}
	for _, r := range records {
		t.byName[r.name] = r
		if r.scram != nil {
			t.scrams = append(t.scrams, r)
		}
	}
	t.nobody = &record{hash: &argonHash{cost: DefaultCost(), salt: t.seed, key: t.seed}}
	return t
}

// decoy picks the user whose hash is computed for a name that does not exist: always the same one for the same name.
func (t *table) decoy(name string) *record {
	if len(t.records) == 0 {
		return t.nobody
	}
	return t.pick(t.records, "hash", name)
}

func (t *table) pick(rs []*record, what, name string) *record {
	h := mac(t.seed, []byte(what), []byte{0}, []byte(name))
	return rs[binary.BigEndian.Uint64(h)%uint64(len(rs))]
}

// decoyScram is the verifier that an unknown name seems to have. No password fits it.
func (t *table) decoyScram(name string) *scramVerifier {
	v := &scramVerifier{
		iterations: defaultIterations,
		salt:       mac(t.seed, []byte("salt\x00"), []byte(name))[:scramSaltLen],
		stored:     mac(t.seed, []byte("stored\x00"), []byte(name)),
		server:     mac(t.seed, []byte("server\x00"), []byte(name)),
	}
	if len(t.scrams) > 0 {
		like := t.pick(t.scrams, "scram", name).scram
		v.iterations = like.iterations
		if n := len(like.salt); n <= 32 {
			v.salt = mac(t.seed, []byte("salt\x00"), []byte(name))[:n]
		}
	}
	return v
}

func readUsers(path string, seed []byte) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open users file: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxUsersFile+1))
	if err != nil {
		return nil, fmt.Errorf("read users file: %w", err)
	}
	return parseUsers(path, b, seed)
}

// fileError is a place in a file and what is wrong there, never what is written there.
func fileError(path string, line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{path, line}, args...)...)
}

var yamlLine = regexp.MustCompile(`line ([0-9]+)`)

// parseUsers reads the content of a users file; seed is used where the file has none. The texts of the YAML library are not passed on: they quote the file.
func parseUsers(path string, b, seed []byte) (*table, error) {
	if len(b) > maxUsersFile {
		return nil, fileError(path, 1, "users file is larger than %d MiB", maxUsersFile>>20)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return newTable(nil, seed), nil
		}
		return nil, yamlError(path, err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return nil, fileError(path, more.Line, "a users file is one YAML document")
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(path, err)
	}
	p := usersParser{path: path, seed: seed}
	return p.document(&doc)
}

func yamlError(path string, err error) error {
	line := 1
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
	}
	return fileError(path, line, "not valid YAML (quote hashes and passwords, indent with spaces)")
}

// usersParser is one reading. Owned by the goroutine that reads.
type usersParser struct {
	path string
	seed []byte
}

func (p *usersParser) errorf(n *yaml.Node, format string, args ...any) error {
	return fileError(p.path, n.Line, format, args...)
}

func (p *usersParser) document(doc *yaml.Node) (*table, error) {
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, fileError(p.path, 1, "a users file is a map with the key users")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return newTable(nil, p.seed), nil
	}
	var records []*record
	seed := p.seed
	err := p.fields(root, "the file", map[string]func(*yaml.Node) error{
		"users": func(n *yaml.Node) (err error) {
			records, err = p.users(n)
			return err
		},
		"seed": func(n *yaml.Node) error {
			s, err := p.text(n, "seed")
			if err != nil {
				return err
			}
			if seed, err = base64.StdEncoding.DecodeString(s); err != nil || len(seed) != seedLen {
				return p.errorf(n, "seed must be 32 bytes in base64; windrose user add writes one")
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return newTable(records, seed), nil
}

// fields hands each value of a map to the function of its key. Unknown and doubled keys are errors.
func (p *usersParser) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return p.errorf(n, "%s must be a map", what)
	}
	seen := make(map[string]bool, len(known))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		f := known[k.Value]
		if k.Kind != yaml.ScalarNode || f == nil {
			return p.errorf(k, "unknown key in %s", what)
		}
		if seen[k.Value] {
			return p.errorf(k, "key %s is there twice", k.Value)
		}
		seen[k.Value] = true
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

func (p *usersParser) text(n *yaml.Node, key string) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", p.errorf(n, "%s must be text", key)
	}
	return n.Value, nil
}

func (p *usersParser) users(n *yaml.Node) ([]*record, error) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, p.errorf(n, "users must be a list")
	}
	records := make([]*record, 0, len(n.Content))
	lines := make(map[string]int, len(n.Content))
	for _, un := range n.Content {
		r, err := p.user(un)
		if err != nil {
			return nil, err
		}
		if line, ok := lines[r.name]; ok {
			return nil, p.errorf(un, "user %q is there twice, first on line %d", r.name, line)
		}
		lines[r.name] = un.Line
		records = append(records, r)
	}
	return records, nil
}

func (p *usersParser) user(n *yaml.Node) (*record, error) {
	r := &record{}
	named := func(s string) string {
		if r.name == "" {
			return s
		}
		return fmt.Sprintf("%s of user %q", s, r.name)
	}
	err := p.fields(n, "a user", map[string]func(*yaml.Node) error{
		"name": func(n *yaml.Node) (err error) {
			if r.name, err = p.text(n, "name"); err != nil {
				return err
			}
			if err = checkUserName(r.name); err != nil {
				r.name = ""
				return p.errorf(n, "%w", err)
			}
			return nil
		},
		"password": func(n *yaml.Node) error {
			s, err := p.text(n, named("password"))
			if err != nil {
				return err
			}
			if r.hash, err = parseArgon(s); err != nil {
				return p.errorf(n, "%s: %w; windrose user add writes one", named("password"), err)
			}
			return nil
		},
		"scram-sha-256": func(n *yaml.Node) error {
			s, err := p.text(n, named("scram-sha-256"))
			if err != nil {
				return err
			}
			if r.scram, err = parseScram(s); err != nil {
				return p.errorf(n, "%s: %w; windrose user add --scram writes one", named("scram-sha-256"), err)
			}
			return nil
		},
		"attrs": func(n *yaml.Node) (err error) {
			r.attrs, err = p.attrs(n, named("attrs"))
			return err
		},
	})
	switch {
	case err != nil:
		return nil, err
	case r.name == "":
		return nil, p.errorf(n, "a user must have a name")
	case r.hash == nil && r.scram == nil:
		return nil, p.errorf(n, "user %q must have a password or scram-sha-256", r.name)
	}
	r.seal()
	return r, nil
}

func (p *usersParser) attrs(n *yaml.Node, what string) (map[string]string, error) {
	if n.Kind != yaml.MappingNode {
		return nil, p.errorf(n, "%s must be a map", what)
	}
	attrs := make(map[string]string, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			return nil, p.errorf(k, "%s: the name of an attribute must be text", what)
		}
		if _, twice := attrs[k.Value]; twice {
			return nil, p.errorf(k, "%s: the same name twice", what)
		}
		s, err := p.text(v, what)
		if err != nil {
			return nil, err
		}
		if err := checkAttrs(map[string]string{k.Value: s}); err != nil {
			return nil, p.errorf(k, "%s: %w", what, err)
		}
		attrs[k.Value] = s
	}
	return attrs, nil
}

// usersFile and userEntry are what Save writes.
type usersFile struct {
	Users []userEntry `yaml:"users"`
	Seed  string      `yaml:"seed"`
}

type userEntry struct {
	Name     string            `yaml:"name"`
	Password string            `yaml:"password,omitempty"`
	Scram    string            `yaml:"scram-sha-256,omitempty"`
	Attrs    map[string]string `yaml:"attrs,omitempty"`
}

// marshal is the file's content. Comments of a file that was read are not kept.
func (t *table) marshal() ([]byte, error) {
	out := usersFile{Users: make([]userEntry, len(t.records)), Seed: base64.StdEncoding.EncodeToString(t.seed)}
	for i, r := range t.records {
		e := userEntry{Name: r.name, Attrs: r.attrs}
		if r.hash != nil {
			e.Password = r.hash.String()
		}
		if r.scram != nil {
			e.Scram = r.scram.String()
		}
		out.Users[i] = e
	}
	var b bytes.Buffer
	b.WriteString("# Written by windrose user; comments are not kept.\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(out); err != nil {
		return nil, fmt.Errorf("encode users file: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("encode users file: %w", err)
	}
	return b.Bytes(), nil
}

// Save writes the table to the file: a new file with mode 0600 and the owner of the old one takes its place at once, so
// that a reader sees either. A symbolic link stays one.
func (u *Users) Save() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	b, err := u.table.Load().marshal()
	if err != nil {
		return err
	}
	path := u.path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := writeFile(path, b); err != nil {
		return fmt.Errorf("write users file: %w", err)
	}
	return nil
}

// writeFile replaces a file as a whole.
func writeFile(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if old, statErr := os.Stat(path); statErr == nil {
		if err = keepOwner(f, old); err != nil {
			return err
		}
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}
