package build

import (
	"context"

	"cube"
)

// Layer returns the snapshot of a key, false if there is none. What it has
// returned stays while the builds run that are there now.
func (s *Service) Layer(ctx context.Context, key string) (cube.SnapshotID, bool, error) {
	id, err := s.store.Layer(ctx, key, rowTime())
	if err != nil && cube.KindOf(err) == cube.NotFound {
		return "", false, nil
	}
	return id, err == nil, err
}

// PutLayer keeps a snapshot under a key, in the place of another.
func (s *Service) PutLayer(ctx context.Context, key string, id cube.SnapshotID) error {
	write, cancel := bounded(ctx)
	defer cancel()
	replaced, err := s.store.PutLayer(write, key, id, rowTime())
	if err == nil && replaced != id {
		s.release(replaced)
	}
	return err
}
