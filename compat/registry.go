package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"cube/internal/internet"
)

// imageNames are the images that the suites' templates begin with.
var imageNames = []string{
	"library/ubuntu:22.04", "library/ubuntu:latest", "library/ubuntu:24.04",
	"library/debian:latest", "library/debian:bookworm", "library/debian:stable",
	"library/python:3", "library/python:3.12", "library/python:3.13.7-trixie",
	"library/node:lts", "library/node:24", "oven/bun:latest", "oven/bun:1.3",
}

// registryHost is a registry on the machine of the server.
type registryHost struct {
	listener net.Listener
	server   *http.Server
}

// serveImages serves one root file system under all the names that the suites ask
// for: what they test is not what is in it.
func serveImages(ctx context.Context, machine *internet.Space, rootfs string) (*registryHost, error) {
	listener, err := machine.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registryHost{listener, &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}}
	go func() { _ = r.server.Serve(listener) }()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return os.Open(rootfs) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", rootfs, err), r.Close())
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	for _, as := range imageNames {
		ref, err := name.ParseReference(listener.Addr().String() + "/" + as)
		if err == nil {
			err = remote.Write(ref, img, remote.WithContext(ctx), remote.WithTransport(transport(machine)))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("writing %s: %w", as, err), r.Close())
		}
	}
	return r, nil
}

// url is where the server finds it.
func (r *registryHost) url() string { return "http://" + r.listener.Addr().String() }

// Close implements io.Closer.
func (r *registryHost) Close() error { return r.server.Close() }
