package image

// Credentials are how a registry knows who asks: the fields of one kind are set.
// All of them are secrets: never logged, never shown.
type Credentials struct {
	Username, Password string // of the registry itself

	AWSAccessKeyID, AWSSecretAccessKey, AWSRegion string // of Amazon's ECR

	GCPServiceAccount string // of Google's Artifact Registry: the JSON of a key
}
