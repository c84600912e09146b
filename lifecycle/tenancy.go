package lifecycle

import (
	"context"

	"cube"
)

// errNoTenant answers a caller that the tenancy has no place for.
func errNoTenant(t cube.Tenancy) error {
	return cube.Errorf(cube.Forbidden, "This server keeps what belongs to each %s apart, and it was not told yours: ask its operator", t)
}

// owner returns to whom belongs what the caller of ctx creates, and whose
// objects a list for it holds: the zero Owner stands for everybody's. Under
// tenancy a caller without a tenant is refused, so that a way to here that
// forgot to ask who it is opens nothing.
func (s *Sandboxes) owner(ctx context.Context) (creates, sees cube.Owner, err error) {
	caller := cube.IdentityFrom(ctx)
	creates = caller.Owner()
	tenant := s.tenancy.Tenant(creates)
	switch {
	case s.tenancy == cube.TenancyOff, caller.Operator():
	case tenant == "":
		return cube.Owner{}, cube.Owner{}, errNoTenant(s.tenancy)
	case s.tenancy == cube.TenancySubject:
		sees.Subject = tenant
	case s.tenancy == cube.TenancyTeam:
		sees.Team = tenant
	}
	return creates, sees, nil
}

// mayTouch refuses an object that is not the caller's, in the words of one that
// is not there: its existence is the owner's secret.
func (s *Sandboxes) mayTouch(ctx context.Context, id cube.SandboxID, owner cube.Owner) error {
	_, sees, err := s.owner(ctx)
	if err != nil {
		return err
	}
	if sees != (cube.Owner{}) && s.tenancy.Tenant(owner) != s.tenancy.Tenant(sees) {
		return errNoSandbox(id)
	}
	return nil
}

func errNoSandbox(id cube.SandboxID) error {
	return cube.Errorf(cube.NotFound, "Sandbox %s not found", id)
}

// keyOf is an idempotency key as rows hold it: under tenancy each tenant has its
// own, and the operator too. No tenant has a blank in its name.
func (s *Sandboxes) keyOf(creates cube.Owner, key string) string {
	if s.tenancy == cube.TenancyOff {
		return key
	}
	return s.tenancy.Tenant(creates) + " " + key
}
