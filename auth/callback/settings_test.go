package callback

import (
	"strings"
	"testing"
)

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	const url = "http://127.0.0.1:1/verify"
	for name, row := range map[string]struct {
		config Config
		want   string // the error begins with it
	}{
		"no URL":               {Config{}, "--auth-callback-url: "},
		"an empty URL":         {Config{URLs: []string{""}}, "--auth-callback-url: "},
		"another scheme":       {Config{URLs: []string{"ftp://s3cret/"}}, "--auth-callback-url: "},
		"no host":              {Config{URLs: []string{"http:///s3cret"}}, "--auth-callback-url: "},
		"a fragment":           {Config{URLs: []string{url + "#s3cret"}}, "--auth-callback-url: "},
		"a user":               {Config{URLs: []string{"http://u:s3cret@h/"}}, "--auth-callback-url: write the URL without a user"},
		"port 0":               {Config{URLs: []string{"http://s3cret:0/"}}, "--auth-callback-url: write a port"},
		"port 65536":           {Config{URLs: []string{"http://s3cret:65536/"}}, "--auth-callback-url: write a port"},
		"a control character":  {Config{URLs: []string{"http://s3cret/\n"}}, "--auth-callback-url: "},
		"a fallback":           {Config{URLs: []string{url, "s3cret"}}, "--auth-callback-fallback-url: "},
		"a shadow":             {Config{Name: "--auth-callback-shadow", URLs: []string{"s3cret"}}, "--auth-callback-shadow-url: "},
		"a timeout":            {Config{URLs: []string{url}, Timeout: -1}, "--auth-callback-timeout: "},
		"a connect timeout":    {Config{URLs: []string{url}, ConnectTimeout: -1}, "--auth-callback-connect-timeout: "},
		"retries":              {Config{URLs: []string{url}, Retries: -1}, "--auth-callback-retries: "},
		"in flight":            {Config{URLs: []string{url}, InFlight: -1}, "--auth-callback-in-flight: "},
		"errors to open":       {Config{URLs: []string{url}, ErrorsToOpen: -1}, "--auth-callback-errors-to-open: "},
		"a header alone":       {Config{URLs: []string{url}, Headers: []string{"s3cret"}}, "--auth-callback-header: "},
		"a header's name":      {Config{URLs: []string{url}, Headers: []string{"s3cret x: y"}}, "--auth-callback-header: "},
		"a header's blank":     {Config{URLs: []string{url}, Headers: []string{"X-A : s3cret"}}, "--auth-callback-header: "},
		"an empty header":      {Config{URLs: []string{url}, Headers: []string{"s3cret: "}}, "--auth-callback-header: "},
		"a header's line feed": {Config{URLs: []string{url}, Headers: []string{"X-A: s3cret\r\nX-B: c"}}, "--auth-callback-header: "},
		"a header twice":       {Config{URLs: []string{url}, Headers: []string{"X-S3cret: a", "x_s3cret: b"}}, "--auth-callback-header: "},
		"a required header":    {Config{URLs: []string{url}, RequireHeader: "s3cret x: y"}, "--auth-callback-require-header: "},
		"a required value":     {Config{URLs: []string{url}, RequireHeader: "X-A: s3cret\n"}, "--auth-callback-require-header: "},
		"no CA":                {Config{URLs: []string{url}, CAFile: "no-such-file"}, "--auth-callback-ca-file: "},
		"a CA without any":     {Config{URLs: []string{url}, CAFile: file(t, "ca", "s3cret")}, "--auth-callback-ca-file: "},
		"no key":               {Config{URLs: []string{url}, CertFile: "cert"}, "--auth-callback-cert-file and --auth-callback-key-file: write both"},
		"no certificate":       {Config{URLs: []string{url}, KeyFile: "key"}, "--auth-callback-cert-file and --auth-callback-key-file: write both"},
		"a wrong key":          {Config{URLs: []string{url}, CertFile: file(t, "cert", "s3cret"), KeyFile: file(t, "key", "s3cret")}, "--auth-callback-cert-file and "},
		"no signing key":       {Config{URLs: []string{url}, SigningKeyFile: "no-such-file"}, "--auth-callback-signing-key-file: "},
		"a short signing key":  {Config{URLs: []string{url}, SigningKeyFile: file(t, "key", "  s3cret-15-bytes  \n")}, "--auth-callback-signing-key-file: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(row.config)
			if err == nil || !strings.HasPrefix(err.Error(), row.want) || strings.Contains(strings.ToLower(err.Error()), "s3cret") {
				t.Errorf("the error is %v, want %s", err, row.want)
			}
		})
	}
}

func TestAHeaderOfTheSettingsReplacesNoneOfAQuestion(t *testing.T) {
	o := newOperator(t, status(200))
	c := newClient(t, Config{URLs: []string{o.URL}, SigningKeyFile: file(t, "key", "0123456789abcdef")})
	decide(t, c, question("key"))
	names := []string{"Authorization", "Connection", "Transfer-Encoding", "TE", "Host", "Idempotency-Key", "Expect", "Accept-Encoding", "X_API_Key", "x.request.path", "X-Request_Method"}
	for name := range o.questions()[0].Header {
		names = append(names, name)
	}
	q := question("key")
	for name := range c.question(&q, nil) {
		names = append(names, name, strings.ToLower(name))
	}
	for _, name := range names {
		if _, err := parseHeaders([]string{name + ": a"}); err == nil || !strings.Contains(err.Error(), "set by the server itself") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}
