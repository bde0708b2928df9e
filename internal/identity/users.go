package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/expr"
)

// UsersSpec is `users:` in the list of authenticators.
type UsersSpec struct {
	File     string        `yaml:"file" required:"true" unit:"file" doc:"File with names, password hashes and attributes; windrose user add writes it." example:"/etc/windrose/users.yaml"`
	Client   string        `yaml:"client" unit:"expr" doc:"Client id that the user fixes, an expression over user and attrs: a client that names another is refused, one that names none gets it. Empty: any." example:"user"`
	Workers  int           `yaml:"workers" default:"2" min:"1" max:"64" doc:"Password hashes computed at once; each takes the memory its hash asks for (19 MiB by default)."`
	Remember time.Duration `yaml:"remember" default:"5m" min:"0s" max:"24h" doc:"How long a password that was right is not hashed again; 0s hashes each time."`
}

// Validate says what is wrong with a specification.
func (s *UsersSpec) Validate() error {
	_, err := s.naming()
	return err
}

func (s *UsersSpec) naming() (naming, error) {
	return newNaming([]expr.RowField{{Name: "user", Kind: expr.String}, {Name: "attrs", Kind: expr.Map}}, "", s.Client, nil)
}

// Bounds of the work that peers can cause.
const (
	maxPassword    = 4096  // bytes
	maxWaiting     = 4096  // verifications that wait for a worker
	maxRemembered  = 65536 // passwords, 32 bytes each
	defaultWorkers = 2
	defaultRecall  = 5 * time.Minute
)

// Errors of Users.
var (
	ErrBusy       = errors.New("too many passwords to verify")
	ErrUserExists = errors.New("user exists")
	ErrNoUser     = errors.New("no such user")
)

// record is one user. Immutable after New.
type record struct {
	name    string
	hash    *argonHash     // nil: none
	scram   *scramVerifier // nil: none
	attrs   map[string]string
	secrets []byte // text of hash and verifier: what a remembered password was checked against
}

// principal is who the user is by the expressions of its file's specification. It is refused where it has no client id and has to.
func (r *record) principal(method string, n *naming) (Principal, Decision) {
	p := Principal{Name: r.name, Attrs: r.attrs, Method: method}
	get := func(field string) any {
		if field == "user" {
			return r.name
		}
		attrs := r.attrs
		if attrs == nil {
			attrs = map[string]string{}
		}
		return attrs
	}
	if !n.name(&p, get) {
		return Principal{refusal: whyName}, Refused
	}
	return p, Admitted
}

// verify checks a plain password. It takes the time of the user's hash, whatever the password is.
func (r *record) verify(password []byte) bool {
	if r.hash != nil {
		return r.hash.verify(password)
	}
	return r.scram.verify(password)
}

// seal fills what is derived from the other fields.
func (r *record) seal() {
	if r.hash != nil {
		r.secrets = append(r.secrets, r.hash.String()...)
	}
	if r.scram != nil {
		r.secrets = append(r.secrets, r.scram.String()...)
	}
}

// Users is a users file: an Authenticator for names with passwords, and the store of SCRAM-SHA-256 exchanges. Safe for
// concurrent use. Verifications read an immutable table by an atomic pointer; mu is for those who change it.
type Users struct {
	path    string
	names   naming
	recent  *recent
	workers chan struct{} // a free place for each hash that may be computed now
	waiting atomic.Int64
	table   atomic.Pointer[table]
	stats   usersStats

	mu sync.Mutex // guards the replacement of table
}

// usersStats are the counters behind Stats. Safe for concurrent use: atomics.
type usersStats struct {
	hashed, remembered, busy atomic.Uint64
}

// UsersStats is what a users file has done and holds.
type UsersStats struct {
	Users      int    // in the file
	Waiting    int    // verifications that wait for a worker or are computed; at most 4,096 wait
	Remembered int    // passwords that are not hashed again for now; at most 65,536
	Hashed     uint64 // hashes computed
	Recalled   uint64 // verifications answered without one
	Busy       uint64 // verifications refused because too many waited
}

// LoadUsers reads a users file, with the defaults of UsersSpec. Errors name the file and the line.
func LoadUsers(path string) (*Users, error) {
	return OpenUsers(UsersSpec{File: path, Workers: defaultWorkers, Remember: defaultRecall})
}

// OpenUsers reads the users file of a specification. Errors name the file and the line.
func OpenUsers(spec UsersSpec) (*Users, error) {
	u := newUsers(spec)
	var err error
	if u.names, err = spec.naming(); err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	if err := u.Reload(); err != nil {
		return nil, err
	}
	return u, nil
}

// NewUsers returns an empty users file that is written to path by Save.
func NewUsers(path string) *Users {
	return newUsers(UsersSpec{File: path, Workers: defaultWorkers, Remember: defaultRecall})
}

func newUsers(spec UsersSpec) *Users {
	u := &Users{
		path:    filepath.Clean(spec.File),
		recent:  newRecent(spec.Remember, maxRemembered),
		workers: make(chan struct{}, max(spec.Workers, 1)),
	}
	u.table.Store(newTable(nil, nil))
	return u
}

// Reload reads the file again. Where it cannot be read or is wrong nothing changes. Sessions that are open stay.
func (u *Users) Reload() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	t, err := readUsers(u.path, u.table.Load().seed)
	if err != nil {
		return err
	}
	u.table.Store(t)
	return nil
}

// Stage reads the file again and returns what makes it take effect, which cannot fail: so a reload of several files changes
// all of them or nothing.
func (u *Users) Stage() (commit func(), err error) {
	t, err := readUsers(u.path, u.table.Load().seed)
	if err != nil {
		return nil, err
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.table.Store(t)
	}, nil
}

// Path is the file.
func (u *Users) Path() string { return u.path }

// Stats tells what to show in metrics.
func (u *Users) Stats() UsersStats {
	return UsersStats{
		Users: len(u.table.Load().records), Waiting: int(u.waiting.Load()), Remembered: u.recent.len(),
		Hashed: u.stats.hashed.Load(), Recalled: u.stats.remembered.Load(), Busy: u.stats.busy.Load(),
	}
}

// Name is "users".
func (u *Users) Name() string { return "users" }

// Slow says that a password hash takes time and memory.
func (u *Users) Slow() bool { return true }

// Authenticate admits a user of the file with its password. A name that is not in the file is Unknown, without delay: a
// Chain hides that by Mask. At most UsersSpec.Workers hashes are computed at once; the others wait until ctx ends, and
// beyond 4,096 the error is ErrBusy.
func (u *Users) Authenticate(ctx context.Context, c *Credentials) (Principal, Decision, error) {
	p, d, done := u.TryAuthenticate(c)
	if done {
		return p, d, nil
	}
	rec := u.table.Load().byName[c.Username]
	if rec == nil {
		return Principal{}, Unknown, nil
	}
	ok, err := u.verify(ctx, rec, c.Password, true)
	if err != nil || !ok {
		return Principal{}, Refused, err
	}
	p, d = rec.principal(u.Name(), &u.names)
	return p, d, nil
}

// TryAuthenticate decides where no hash is needed: no user name, one that is not in the file, no password, or one that
// was found right a short while ago. It does not wait.
func (u *Users) TryAuthenticate(c *Credentials) (p Principal, d Decision, done bool) {
	if !c.HasUsername {
		return Principal{}, Unknown, true
	}
	rec := u.table.Load().byName[c.Username]
	switch {
	case rec == nil:
		return Principal{}, Unknown, true
	case len(c.Password) == 0 || len(c.Password) > maxPassword:
		return Principal{}, Refused, true
	case u.recent.try(u.recent.key(rec, c.Password)):
		u.stats.remembered.Add(1)
		p, d = rec.principal(u.Name(), &u.names)
		return p, d, true
	}
	return Principal{}, Unknown, false
}

// Masks says whether c has a name and a password that a known name would have been refused for only after a hash.
func (u *Users) Masks(c *Credentials) bool {
	return c.HasUsername && len(c.Password) > 0 && len(c.Password) <= maxPassword && u.table.Load().byName[c.Username] == nil
}

// Mask computes the hash of a user that does exist and throws it away, so that a refusal takes as long for names that
// are not in the file as for those that are.
func (u *Users) Mask(ctx context.Context, c *Credentials) error {
	_, err := u.verify(ctx, u.table.Load().decoy(c.Username), c.Password, false)
	return err
}

// verify checks a password against a record, when a worker is free for it. Without recall it neither uses nor changes
// what is remembered, and so always takes the time of a hash.
func (u *Users) verify(ctx context.Context, rec *record, password []byte, recall bool) (bool, error) {
	if u.waiting.Add(1) > maxWaiting {
		u.waiting.Add(-1)
		u.stats.busy.Add(1)
		return false, ErrBusy
	}
	defer u.waiting.Add(-1)
	select {
	case u.workers <- struct{}{}:
	case <-ctx.Done():
		return false, fmt.Errorf("wait to verify a password: %w", ctx.Err())
	}
	defer func() { <-u.workers }()
	k := u.recent.key(rec, password)
	if recall && u.recent.has(k) { // while this one waited, another client of the same user was verified
		u.stats.remembered.Add(1)
		return true, nil
	}
	u.stats.hashed.Add(1)
	if !rec.verify(password) {
		return false, nil
	}
	if recall {
		u.recent.add(k)
	}
	return true, nil
}

// AddOptions are the choices of Users.Add; the zero value takes all defaults.
type AddOptions struct {
	Attrs           map[string]string // nil keeps those of a replaced user
	Cost            Cost              // of the argon2id hash
	Scram           bool              // write a SCRAM-SHA-256 verifier besides the hash
	ScramIterations int               // 4,096 to 1,000,000; 0: 15,000
	Replace         bool              // give a user that exists another password; without it the error is ErrUserExists
}

// Add puts a user into the table in memory; Save writes the file. The password is hashed and not kept.
func (u *Users) Add(name string, password []byte, o AddOptions) error {
	if err := checkUserName(name); err != nil {
		return err
	}
	if len(password) == 0 || len(password) > maxPassword {
		return fmt.Errorf("add user %q: password must have 1 to %d bytes", name, maxPassword)
	}
	if err := checkAttrs(o.Attrs); err != nil {
		return fmt.Errorf("add user %q: %w", name, err)
	}
	rec := &record{name: name, attrs: maps.Clone(o.Attrs)}
	var err error
	if rec.hash, err = newArgonHash(password, o.Cost); err != nil {
		return fmt.Errorf("add user %q: %w", name, err)
	}
	if o.Scram {
		if !scramPassword(password) {
			return fmt.Errorf("add user %q: a SCRAM password must be UTF-8 text without control characters", name)
		}
		if rec.scram, err = newScramVerifier(password, o.ScramIterations); err != nil {
			return fmt.Errorf("add user %q: %w", name, err)
		}
	}
	rec.seal()
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.table.Load()
	old := t.byName[name]
	if old != nil && !o.Replace {
		return fmt.Errorf("add user %q: %w", name, ErrUserExists)
	}
	if old != nil && o.Attrs == nil {
		rec.attrs = old.attrs
	}
	u.table.Store(newTable(replace(t.records, name, rec), t.seed))
	return nil
}

// Remove takes a user out of the table in memory; Save writes the file. The error is ErrNoUser where there is none.
func (u *Users) Remove(name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.table.Load()
	if t.byName[name] == nil {
		return fmt.Errorf("remove user %q: %w", name, ErrNoUser)
	}
	u.table.Store(newTable(replace(t.records, name, nil), t.seed))
	return nil
}

// UserInfo is what may be shown of a user.
type UserInfo struct {
	Name  string            `json:"name" yaml:"name"`
	Attrs map[string]string `json:"attrs,omitempty" yaml:"attrs,omitempty"`
	Scram bool              `json:"scram" yaml:"scram"` // may use SCRAM-SHA-256
}

// List returns the users in the order of the file. The maps are not to be written.
func (u *Users) List() []UserInfo {
	t := u.table.Load()
	out := make([]UserInfo, len(t.records))
	for i, r := range t.records {
		out[i] = UserInfo{Name: r.name, Attrs: r.attrs, Scram: r.scram != nil}
	}
	return out
}

// replace returns a copy of rs with rec in the place of the user of that name, or at the end; nil removes it.
func replace(rs []*record, name string, rec *record) []*record {
	out := make([]*record, 0, len(rs)+1)
	placed := rec == nil
	for _, r := range rs {
		switch {
		case r.name != name:
			out = append(out, r)
		case !placed:
			out = append(out, rec)
			placed = true
		}
	}
	if !placed {
		out = append(out, rec)
	}
	return out
}

func checkUserName(name string) error {
	if name == "" || len(name) > 1024 || !event.ValidUTF8([]byte(name)) {
		return errors.New("user name must be UTF-8 text of 1 to 1024 bytes without control characters")
	}
	return nil
}

func checkAttrs(attrs map[string]string) error {
	for k, v := range attrs {
		if !attrName(k) {
			return errors.New("name of an attribute must be of letters, digits and the signs . _ -")
		}
		if !event.ValidUTF8([]byte(v)) {
			return fmt.Errorf("attribute %q must be UTF-8 text without control characters", k)
		}
	}
	return nil
}

func attrName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return s != ""
}
