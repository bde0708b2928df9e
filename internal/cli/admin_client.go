package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/clienttls"
)

// maxDocument bounds what is read of an answer; the node bounds what it answers.
const maxDocument = admin.MaxAnswer

// adminSockets are where the socket of a node on this machine is looked for when nothing else is said.
var adminSockets = []string{"data/" + admin.SocketFile, "/var/lib/windrose/" + admin.SocketFile}

// adminFlags say which node is asked, and who asks. Owned by the goroutine of Main.
type adminFlags struct {
	address, token, ca string
	insecure           bool
	timeout            time.Duration
}

func addAdminFlags(c *cobra.Command) *adminFlags {
	f := &adminFlags{}
	fl := c.Flags()
	fl.StringVar(&f.address, "admin", "", "node to ask: unix:PATH, host:port or URL (default: $WINDROSE_ADMIN, the socket in ./data or /var/lib/windrose, 127.0.0.1:8400)")
	fl.StringVar(&f.token, "token", "", "token to show; better in the environment as WINDROSE_TOKEN")
	fl.StringVar(&f.ca, "admin-ca", "", "certificates of authorities to trust for https, PEM (default: the system's)")
	fl.BoolVar(&f.insecure, "admin-insecure", false, "do not check the node's certificate")
	fl.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for each answer")
	return f
}

// adminClient asks the admin API of one node. Safe for concurrent use.
type adminClient struct {
	http  *http.Client
	base  string // of URLs, without a slash at its end
	where string // as people say it
	token string
	wait  time.Duration
}

// client resolves the flags; nothing is dialled yet.
func (f *adminFlags) client() (*adminClient, error) {
	address := f.address
	if address == "" {
		address = os.Getenv("WINDROSE_ADMIN")
	}
	if address == "" {
		address = "127.0.0.1:8400"
		for _, s := range adminSockets {
			if info, err := os.Stat(s); err == nil && info.Mode()&os.ModeSocket != 0 {
				address = "unix:" + s
				break
			}
		}
	}
	a := &adminClient{where: address, token: f.token, wait: f.timeout}
	if a.token == "" {
		a.token = os.Getenv("WINDROSE_TOKEN")
	}
	// No proxy: the node is meant, nobody else.
	tr := &http.Transport{MaxIdleConns: 2, IdleConnTimeout: time.Minute}
	a.http = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok && (filepath.IsAbs(address) || strings.HasPrefix(address, "."+string(filepath.Separator))) {
		path, ok = address, true // what begins like a path is one
	}
	if ok {
		path = filepath.Clean(strings.TrimPrefix(path, "//"))
		a.base = "http://localhost"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		return a, nil
	}
	u, err := adminURL(address)
	if err != nil {
		return nil, usagef("--admin %s: want unix:PATH, host:port or a URL", address)
	}
	a.base = u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/readyz")
	c, err := (&clienttls.Spec{CA: f.ca, Insecure: f.insecure}).Config()
	if err != nil {
		return nil, fmt.Errorf("read --admin-ca: %w", err)
	}
	tr.TLSClientConfig = c
	return a, nil
}

// apiError is an answer that is not what was asked for.
type apiError struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
}

func (e *apiError) Error() string {
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	for i, one := range e.Errors {
		text += map[bool]string{true: ": ", false: "; "}[i == 0] + one.Message
	}
	return text
}

// get reads a document. What the API says is wrong is an *apiError.
func (a *adminClient) get(ctx context.Context, path string, query url.Values, into any) (etag string, err error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return a.do(ctx, http.MethodGet, path, "", nil, into)
}

// do sends a request with a JSON body (nil: none) and reads the answer into into (nil: it is not read).
func (a *adminClient) do(ctx context.Context, method, path, ifMatch string, body, into any) (etag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return "", fmt.Errorf("encode the request: %w", err)
		}
		send = bytes.NewReader(b)
	}
	res, err := a.send(ctx, method, path, ifMatch, send)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }() // it was read, or nobody needs it
	b, err := io.ReadAll(io.LimitReader(res.Body, maxDocument))
	if err != nil {
		return "", fmt.Errorf("read the answer of %s: %w", a.where, err)
	}
	if into != nil && json.Unmarshal(b, into) != nil {
		return "", fmt.Errorf("the answer of %s (HTTP %d) is not of a Windrose node", a.where, res.StatusCode)
	}
	return res.Header.Get("ETag"), nil
}

// send sends a request and returns an answer of success, whose body the caller closes: streams are read from it.
func (a *adminClient) send(ctx context.Context, method, path, ifMatch string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.where, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if ifMatch != "" {
		req.Header.Set("If-Match", ifMatch)
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("ask %s: %w (is the node running, and is --admin its address?)", a.where, err)
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()                 // what it says is read
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxHealth)) // an answer that is cut off is said as its status
	e := &apiError{}
	if json.Unmarshal(b, e) != nil || e.Status == 0 {
		*e = apiError{Status: res.StatusCode, Title: fmt.Sprintf("%s answers %s", a.where, res.Status)}
	}
	return nil, e
}

// escape makes one segment of a path of a name, whatever is in it.
func escape(name string) string {
	return strings.ReplaceAll(url.PathEscape(name), ".", "%2E")
}
