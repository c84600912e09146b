package build

import "strings"

// User makes the account that a USER names, unless it is there, and lets it
// become root without a password if sudo says so.
func User(root, name string, sudo bool) error {
	if strings.Contains(name, ":") {
		return errorf("invalid user name '%s': USER takes one account, without a group", name)
	}
	if _, err := (accounts{root}).add(name); err != nil {
		return err
	}
	if sudo {
		return AllowSudo(root, name)
	}
	return nil
}
