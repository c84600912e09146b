package telemetry

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when an exporter is left behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret stands wherever a client may write.
const secret = "s3cret-of-a-test"
