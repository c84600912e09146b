package image

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"cube"
)

// Credentials are how a registry knows who asks: the fields of one kind are set.
// All of them are secrets: never logged, never shown.
type Credentials struct {
	Username, Password string // of the registry itself

	AWSAccessKeyID, AWSSecretAccessKey, AWSRegion string // of Amazon's ECR

	GCPServiceAccount string // of Google's Artifact Registry: the JSON of a key
}

// String keeps them out of logs.
func (c *Credentials) String() string { return "[credentials]" }

// GoString keeps them out of logs.
func (c *Credentials) GoString() string { return "[credentials]" }

// Validate refuses what no registry can take, with the field that is missing.
func (c *Credentials) Validate() error {
	basic := c.Username != "" || c.Password != ""
	aws := c.AWSAccessKeyID != "" || c.AWSSecretAccessKey != "" || c.AWSRegion != ""
	gcp := c.GCPServiceAccount != ""
	switch {
	case basic && (aws || gcp) || aws && gcp:
		return cube.Errorf(cube.Invalid, "registry credentials of more than one kind: give one of username and password, an AWS access key, or a GCP service account")
	case basic:
		if c.Username == "" || c.Password == "" {
			return cube.Errorf(cube.Invalid, "registry credentials need both, username and password")
		}
		if strings.ContainsRune(c.Username, ':') {
			return cube.Errorf(cube.Invalid, "a registry's username cannot have a colon")
		}
	case aws:
		if c.AWSAccessKeyID == "" || c.AWSSecretAccessKey == "" || c.AWSRegion == "" {
			return cube.Errorf(cube.Invalid, "registry credentials of AWS need awsAccessKeyId, awsSecretAccessKey and awsRegion")
		}
		if !awsRegion.MatchString(c.AWSRegion) || !awsKeyID.MatchString(c.AWSAccessKeyID) {
			return cube.Errorf(cube.Invalid, "registry credentials of AWS: awsRegion is written like eu-west-1, awsAccessKeyId in letters and digits")
		}
	case gcp:
		var key map[string]any
		if json.Unmarshal([]byte(c.GCPServiceAccount), &key) != nil {
			return cube.Errorf(cube.Invalid, "registry credentials of GCP: serviceAccountJson must be the JSON of a service account's key")
		}
	default:
		return cube.Errorf(cube.Invalid, "registry credentials are empty: give username and password, an AWS access key, or a GCP service account, or leave them out")
	}
	return nil
}

// fields names what was given, for a sentence.
func (c *Credentials) fields() string {
	switch {
	case c.AWSAccessKeyID != "":
		return "awsAccessKeyId, awsSecretAccessKey and awsRegion"
	case c.GCPServiceAccount != "":
		return "serviceAccountJson"
	}
	return "username and password"
}

// authenticator turns credentials into what a registry is told.
func (r *Registries) authenticator(ctx context.Context, c *Credentials, ref reference) (authn.Authenticator, error) {
	if c == nil {
		return authn.Anonymous, nil
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	switch {
	case c.AWSAccessKeyID != "":
		return r.ecrAuthenticator(ctx, c, ref)
	case c.GCPServiceAccount != "":
		return &authn.Basic{Username: "_json_key", Password: c.GCPServiceAccount}, nil
	}
	return &authn.Basic{Username: c.Username, Password: c.Password}, nil
}
