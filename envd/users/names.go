package users

import (
	"os/user"
	"strconv"
)

// Names finds the names of owners and groups, each once: a listing asks for the
// same few again and again, and each answer is a file read through. The zero
// value is ready. Not for concurrent use.
type Names struct {
	owners, groups map[uint32]string
}

// Owner returns the name of a user id, or the number where there is none.
func (n *Names) Owner(uid uint32) string {
	return remembered(&n.owners, uid, func(id string) string {
		if u, err := user.LookupId(id); err == nil {
			return u.Username
		}
		return id
	})
}

// Group returns the name of a group id, or the number where there is none.
func (n *Names) Group(gid uint32) string {
	return remembered(&n.groups, gid, func(id string) string {
		if g, err := user.LookupGroupId(id); err == nil {
			return g.Name
		}
		return id
	})
}

func remembered(names *map[uint32]string, id uint32, find func(string) string) string {
	if *names == nil {
		*names = map[uint32]string{}
	}
	name, ok := (*names)[id]
	if !ok {
		name = find(strconv.FormatUint(uint64(id), 10))
		(*names)[id] = name
	}
	return name
}
