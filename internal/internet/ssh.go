package internet

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"

	"golang.org/x/crypto/ssh"
)

// serveSSH answers on port 22 of all places, and takes nobody's key.
func (i *Internet) serveSSH() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, errors.New("nobody's key")
	}}
	config.AddHostKey(signer)
	return i.serveStream("tcp4", ":22", false, func(c net.Conn) { _, _, _, _ = ssh.NewServerConn(c, config) })
}
