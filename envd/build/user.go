package build

import (
	"os/user"
	"strconv"
	"strings"
)

// User makes the account that a USER names, unless it is there, and lets it
// become root without a password if sudo says so. It returns the account's name,
// which may have been asked for by its number.
func User(root, name string, sudo bool) (string, error) {
	if strings.Contains(name, ":") {
		return "", errorf("invalid user name '%s': USER takes one account, without a group", name)
	}
	if _, err := strconv.ParseUint(name, 10, 31); err == nil {
		account, err := user.LookupId(name)
		if err != nil {
			return "", errorf("invalid user: there is no account with the number %s", name)
		}
		name = account.Username
	}
	if _, err := (accounts{root}).add(name); err != nil {
		return "", err
	}
	if sudo {
		return name, AllowSudo(root, name)
	}
	return name, nil
}
