package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"cube/network/certificates"
	"cube/network/nameserver"
)

// domainName is a host name of labels (RFC 1123), in lower case.
var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// validateDomain refuses settings of the domain that cannot work together, and
// adds the port to the domain, which SDKs take from answers.
func (s *Settings) validateDomain() error {
	s.Domain = strings.ToLower(s.Domain)
	if s.Domain != "" {
		name, port := s.domainParts()
		n, err := strconv.Atoi(port)
		_, notAddress := netip.ParseAddr(name)
		if !domainName.MatchString(name) || len(name) > 200 || notAddress == nil || (port != "" && (err != nil || n < 1 || n > 65535)) {
			return fmt.Errorf("--domain %q: write a name, such as cube.localhost, or a name and a port, such as cube.localhost:3000", s.Domain)
		}
	}
	switch {
	case (s.TLSCert == "") != (s.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key belong together: write both")
	case s.TLSCert != "" && s.TLS == "internal":
		return errors.New("--tls=internal and --tls-cert are two certificates: write one of them")
	case s.TLS == "internal" && s.Domain == "":
		return errors.New("--tls=internal needs a domain to make a certificate for: write --domain, such as --domain cube.localhost")
	case s.DNSBind == "" && s.DNSAddress != "":
		return errors.New("--dns-address is an answer that nobody gives: write --dns-bind too")
	case s.DNSBind != "" && s.Domain == "":
		return errors.New("--dns-bind answers for a domain: write --domain, such as --domain cube.localhost")
	}
	if s.DNSBind != "" {
		if err := checkAddress("--dns-bind", s.DNSBind); err != nil {
			return err
		}
	}
	if s.DNSAddress != "" {
		if _, err := netip.ParseAddr(s.DNSAddress); err != nil {
			return fmt.Errorf("--dns-address %q: write an IP address", s.DNSAddress)
		}
	}
	if _, port := s.domainParts(); s.secure() && s.Domain != "" && port == "" {
		if _, bound, err := net.SplitHostPort(s.Bind); err == nil && bound != "443" && bound != "0" {
			s.Domain += ":" + bound
		}
	}
	return nil
}

// domainParts are the domain's name and its port, "" without one.
func (s *Settings) domainParts() (name, port string) {
	name, port, _ = strings.Cut(s.Domain, ":")
	return name, port
}

// secure tells whether the listener speaks HTTPS.
func (s *Settings) secure() bool { return s.TLS == "internal" || s.TLSCert != "" }

// url is where the server is.
func (s *Settings) url(addr net.Addr) string {
	if s.secure() {
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}

// Authority opens the certificate authority of --tls=internal.
func (s *Settings) Authority() (*certificates.Authority, error) {
	if s.Domain == "" {
		return nil, errors.New("the authority is of a domain: write --domain as the server has it")
	}
	if err := os.MkdirAll(s.DataDir, 0o711); err != nil { // as the server makes it
		return nil, fmt.Errorf("making the data directory (are you root? choose another with --data-dir): %w", err)
	}
	name, _ := s.domainParts()
	return certificates.OpenAuthority(filepath.Join(s.DataDir, "tls"), name)
}

// openDomain begins to answer for the domain's names and returns the listener's
// TLS, nil for none. The returned function ends all of it.
func (s *Settings) openDomain(ctx context.Context, log *slog.Logger) (*tls.Config, func(), error) {
	var beside sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	end := func() { cancel(); beside.Wait() }
	secure, err := s.certificate(ctx, &beside, log)
	if err == nil && s.DNSBind != "" {
		name, _ := s.domainParts()
		var names *nameserver.Server
		if names, err = nameserver.Listen(s.DNSBind, name, s.dnsAddress()); err == nil {
			log.Info("names are answered", "domain", name, "dns", names.Addr().String(), "with", s.dnsAddress().String())
			beside.Go(func() {
				<-ctx.Done()
				names.Close()
			})
		}
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return secure, end, nil
}

func (s *Settings) certificate(ctx context.Context, beside *sync.WaitGroup, log *slog.Logger) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	switch {
	case s.TLS == "internal":
		authority, err := s.Authority()
		if err != nil {
			return nil, err
		}
		config.GetCertificate = authority.Certificate
	case s.TLSCert != "":
		files, err := certificates.OpenFiles(s.TLSCert, s.TLSKey, log)
		if err != nil {
			return nil, err
		}
		config.GetCertificate = files.Certificate
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		beside.Go(func() {
			defer signal.Stop(hangups)
			for {
				select {
				case <-ctx.Done():
					return
				case <-hangups:
					if err := files.Reload(); err != nil {
						log.Error("the certificate was not replaced: the last one stays", "error", err)
					}
				}
			}
		})
	default:
		return nil, nil
	}
	return config, nil
}

// dnsAddress is what the name server answers.
func (s *Settings) dnsAddress() netip.Addr {
	host, _, _ := net.SplitHostPort(s.Bind)
	for _, text := range []string{s.DNSAddress, host} {
		if addr, err := netip.ParseAddr(text); err == nil && !addr.IsUnspecified() {
			return addr.Unmap().WithZone("")
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
