package image

// The account that sandboxes work as: E2B's SDKs expect this name.
const (
	userName = "user"
	userID   = 1000
)

// accounts writes who there is: a system's usual names, and the user, who may
// become root without a password.
func (t *tree) accounts() {
	t.file("etc/passwd", `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
user:x:1000:1000:user:/home/user:/bin/bash
`, 0o644)
	t.file("etc/group", `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
sudo:x:27:user
www-data:x:33:
shadow:x:42:
utmp:x:43:
staff:x:50:
users:x:100:user
nogroup:x:65534:
user:x:1000:
`, 0o644)
	// "*" is no password's hash: nobody signs in with one.
	t.file("etc/shadow", "root:*:19000:0:99999:7:::\nuser:*:19000:0:99999:7:::\n", 0o640)
	t.file("etc/sudoers", `Defaults env_reset
Defaults !use_pty
Defaults secure_path="`+Path+`"
root ALL=(ALL:ALL) ALL
user ALL=(ALL:ALL) NOPASSWD: ALL
`, 0o440)
	t.home()
}

// home makes the user's home. What they install without being root goes below
// ~/.local, where both pip and npm are told to put it: the host's directories
// belong to root.
func (t *tree) home() {
	home := "home/" + userName
	t.directory(home, 0o755, userID)
	for _, file := range []struct{ name, content string }{
		{".bashrc", "[ -z \"$PS1\" ] || PS1='\\u@\\h:\\w\\$ '\nalias ls='ls --color=auto'\n"},
		{".bash_logout", ""},
		{".npmrc", "prefix=${HOME}/.local\n"},
		{".profile", "[ -n \"$BASH_VERSION\" ] && [ -f ~/.bashrc ] && . ~/.bashrc\n"},
	} {
		t.file(home+"/"+file.name, file.content, 0o644)
		t.owner(home+"/"+file.name, userID)
	}
}
