package callback

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// header is one of a setting.
type header struct{ name, value string }

// ownNames are the headers of a question that no setting may change, and those
// by which servers speak about the connection or the body, lower-case.
var ownNames = []string{
	"authorization", "x-api-key", "x-request-path", "x-request-method", "x-request-id", "user-agent",
	"x-cube-timestamp", "x-cube-signature", "idempotency-key", "x-idempotency-key",
	"host", "content-length", "transfer-encoding", "connection", "proxy-connection", "keep-alive",
	"proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade", "expect", "accept-encoding",
}

// check looks at all settings but the files.
func (c *Config) check() (headers []header, required header, err error) {
	if len(c.URLs) == 0 {
		return nil, header{}, fmt.Errorf("%s-url: write the URL of your service", c.Name)
	}
	for i, u := range c.URLs {
		if err := checkURL(u); err != nil {
			flag := c.Name + "-url"
			if i > 0 {
				flag = c.Name + "-fallback-url"
			}
			return nil, header{}, fmt.Errorf("%s: %w", flag, err)
		}
	}
	for _, row := range []struct {
		flag  string
		value time.Duration
	}{{"-timeout", c.Timeout}, {"-connect-timeout", c.ConnectTimeout}} {
		if row.value < 0 {
			return nil, header{}, fmt.Errorf("%s%s: write a time above 0, such as 10s", c.Name, row.flag)
		}
	}
	for _, row := range []struct {
		flag         string
		value, least int
	}{{"-retries", c.Retries, 0}, {"-in-flight", c.InFlight, 1}, {"-errors-to-open", c.ErrorsToOpen, 1}} {
		if row.value < row.least {
			return nil, header{}, fmt.Errorf("%s%s: write a number from %d on", c.Name, row.flag, row.least)
		}
	}
	if headers, err = parseHeaders(c.Headers); err != nil {
		return nil, header{}, fmt.Errorf("%s-header: %w", c.Name, err)
	}
	if c.RequireHeader != "" {
		name, value, _ := strings.Cut(c.RequireHeader, ":")
		required = header{http.CanonicalHeaderKey(name), strings.Trim(value, " \t")}
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, header{}, fmt.Errorf("%s-require-header: write it as 'Name' or 'Name: value'", c.Name)
		}
	}
	return headers, required, nil
}

// checkURL says what to write instead of a URL that cannot work. It shows
// nothing of it: it may hold a secret.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Fragment != "" {
		return errors.New("write the URL of your service, such as https://auth.example.com/verify")
	}
	if u.User != nil {
		return errors.New("write the URL without a user and a password: they would be sent as Authorization, beside the client's key. A secret of your own can stand in --auth-callback-header")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("write a port from 1 to 65535 after the host, or none")
		}
	}
	return nil
}

// parseHeaders reads headers that are to stand on each question. Its errors show
// nothing of one, for what was meant as a value may stand where a name should.
func parseHeaders(lines []string) (headers []header, err error) {
	seen := map[string]bool{}
	for _, line := range lines {
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		folded := fold(name)
		switch {
		case !found || value == "" || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
			return nil, errors.New("write it as 'Name: value'")
		case slices.Contains(ownNames, folded):
			return nil, fmt.Errorf("%s is set by the server itself: write another name", http.CanonicalHeaderKey(folded))
		case seen[folded]:
			return nil, errors.New("write each name once")
		}
		seen[folded] = true
		headers = append(headers, header{http.CanonicalHeaderKey(name), value})
	}
	return headers, nil
}

// folding makes one of the spellings that some server takes for the same: CGI
// makes "_" of "-", others fold ".".
var folding = strings.NewReplacer("_", "-", ".", "-")

func fold(name string) string { return folding.Replace(strings.ToLower(name)) }
