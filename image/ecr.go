package image

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"cube"
)

var (
	awsRegion = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]{2,12}){1,3}-\d{1,2}$`)
	awsKeyID  = regexp.MustCompile(`^\w{4,128}$`)
	ecrHost   = regexp.MustCompile(`^\d{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn|\.eu)?|on\.aws|on\.amazonwebservices\.com\.cn)$`)
)

// ecrAuthenticator changes an access key into a token of Amazon's registry,
// which is good for twelve hours. Only that registry is told it.
func (r *Registries) ecrAuthenticator(ctx context.Context, c *Credentials, ref reference) (authn.Authenticator, error) {
	if !ecrHost.MatchString(ref.registry) {
		return nil, cube.Errorf(cube.Invalid, "image '%s': credentials of AWS are for its registry, ACCOUNT.dkr.ecr.REGION.amazonaws.com; give %s a username and password", ref.asked, ref.registry)
	}
	host := "api.ecr." + c.AWSRegion + ".amazonaws.com"
	if strings.HasPrefix(c.AWSRegion, "cn-") {
		host += ".cn"
	}
	at := url.URL{Scheme: "https", Host: host, Path: "/"}
	if m := r.hosts.mirror(host); m != nil { // where Amazon is behind something of the operator's
		at.Host, at.Path = m.Host, m.Path+"/"
	}
	payload := []byte("{}")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
	sign(req, payload, awsKey{id: c.AWSAccessKeyID, secret: c.AWSSecretAccessKey}, c.AWSRegion, "ecr", time.Now())
	client := http.Client{Transport: r.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		// What it says names the key's account: for the log alone.
		return nil, cube.WrapError(cube.Forbidden, cube.Errorf(cube.Forbidden, "%s: %.500s", resp.Status, answer),
			"access denied to '%s': AWS gives no token for the access key (status code %d); check awsAccessKeyId, awsSecretAccessKey and awsRegion, and that the key may call ecr:GetAuthorizationToken", ref.asked, resp.StatusCode)
	}
	var tokens struct {
		AuthorizationData []struct {
			AuthorizationToken []byte `json:"authorizationToken"`
		} `json:"authorizationData"`
	}
	if err := json.Unmarshal(answer, &tokens); err != nil || len(tokens.AuthorizationData) == 0 {
		return nil, cube.WrapError(cube.Unavailable, err, "failed to pull image '%s': AWS answers without a token", ref.asked)
	}
	user, password, found := strings.Cut(string(tokens.AuthorizationData[0].AuthorizationToken), ":")
	if !found {
		return nil, cube.Errorf(cube.Unavailable, "failed to pull image '%s': AWS answers without a token", ref.asked)
	}
	return &authn.Basic{Username: user, Password: password}, nil
}
