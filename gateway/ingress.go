package gateway

import (
	"context"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"

	"cube"
)

type ingressKey struct{}

func withIngress(ctx context.Context, i cube.Ingress) context.Context {
	return context.WithValue(ctx, ingressKey{}, i)
}

// rewriteIngress goes into a sandbox as its owner wants it: with the Host that
// servers inside expect, while X-Forwarded-Host has the client's, and with TLS
// where the server inside speaks it. The agent is always reached the same way.
func rewriteIngress(r *httputil.ProxyRequest) {
	i, _ := r.In.Context().Value(ingressKey{}).(cube.Ingress)
	port := targetOf(r.In.Context()).port
	if port == cube.AgentPort {
		return
	}
	if i.MaskRequestHost != "" {
		r.Out.Host = strings.ReplaceAll(i.MaskRequestHost, "${PORT}", strconv.Itoa(int(port)))
	}
	if slices.Contains(i.HTTPSPorts, int(port)) {
		r.Out.URL.Scheme = "https"
	}
}
