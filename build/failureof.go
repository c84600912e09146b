package build

import (
	"errors"

	"cube"
)

// failureOf is why a build failed, as its error says.
func failureOf(err error) cube.BuildFailure {
	if e, ok := errors.AsType[interface {
		error
		BuildFailure() cube.BuildFailure
	}](err); ok {
		return e.BuildFailure()
	}
	return cube.BuildFailure{Message: "the server could not do this step: its log says why"}
}
