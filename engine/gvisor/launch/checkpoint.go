package launch

import "time"

// CheckpointCommand is the first argument that makes runsc read a
// CheckpointRequest from its standard input and keep, or thaw, that sandbox.
const CheckpointCommand = "checkpoint"

// UpperFD is where the helper writes for Upper.
const UpperFD = 4

// CheckpointRequest is one thing to do with a sandbox that runs. The server
// keeps the pipe open that the request comes through: when it is closed before
// the snapshot stands, the helper undoes what it has done.
type CheckpointRequest struct {
	Dir     string // the sandbox's
	Thaw    bool   // let it run on, and nothing else
	Upper   bool   // list what was written over the root in UpperFD, and make no snapshot
	Tmp     string // a directory that the helper makes and fills
	Final   string // what Tmp is called once it is whole
	Keep    Manifest
	Timeout time.Duration // after which the helper gives up
}

// CheckpointResult is how that went. On an error the sandbox is as it was
// before and nothing of the snapshot is left.
type CheckpointResult struct {
	Error  string        `json:",omitempty"`
	Full   bool          // the error is that there is no room on the disk
	Bytes  int64         // that the snapshot takes
	Freeze time.Duration // until nothing inside ran any more
	Save   time.Duration // until gVisor had written
	Sync   time.Duration // until it was on the disk
}
