package app

import "cube/image"

// RegistrySettings are where images come from.
type RegistrySettings struct {
	RegistryMirror   map[string]string `name:"registry-mirror" env:"CUBE_REGISTRY_MIRROR" mapsep:";" placeholder:"HOST=URL" group:"templates" help:"Ask URL in place of the registry HOST for its images, such as docker.io=http://127.0.0.1:5000, with the credentials of the build if it wants some. Several with ';' between them, or the flag again."`
	RegistryInsecure []string          `name:"registry-insecure" env:"CUBE_REGISTRY_INSECURE" placeholder:"HOST" group:"templates" help:"Registries (HOST or HOST:PORT, several with commas) that are asked by HTTP, without encryption, wherever they are."`
	RegistryAllow    []string          `name:"registry-allow" env:"CUBE_REGISTRY_ALLOW" placeholder:"HOST" group:"templates" help:"Registries (HOST or HOST:PORT, several with commas) that may be at private addresses. Others may not: whoever builds a template makes this server connect to what they name."`
}

// registries are the settings as the images know them.
func (s *RegistrySettings) registries() image.RegistryConfig {
	return image.RegistryConfig{Mirrors: s.RegistryMirror, Insecure: s.RegistryInsecure, Allow: s.RegistryAllow}
}

// validateRegistries refuses what no registry is called.
func (s *RegistrySettings) validateRegistries() error {
	_, err := image.NewRegistries(s.registries())
	return err
}
