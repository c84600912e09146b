package telemetry

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"cube/internal/requestid"
)

// taker is a collector that keeps what it is sent.
type taker struct {
	*httptest.Server
	mu    sync.Mutex
	sent  []byte
	spans []*tracepb.Span
}

func newTaker(t *testing.T, status int) *taker {
	c := &taker{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var request coltracepb.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &request); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent = append(c.sent, body...)
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "the collector says "+secret)
	}))
	t.Cleanup(c.Close)
	return c
}

// forget makes a test's environment one without a collector.
func forget(t *testing.T) {
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_HEADERS",
	} {
		t.Setenv(name, "")
	}
}

func mustTrace(t *testing.T, log *slog.Logger) *Traces {
	t.Helper()
	traces, err := NewTraces(t.Context(), log)
	if err != nil || traces == nil {
		t.Fatalf("traces %v, %v", traces, err)
	}
	return traces
}

func TestASpanForEachRequest(t *testing.T) {
	forget(t)
	c := newTaker(t, 200)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	traces := mustTrace(t, slog.New(slog.DiscardHandler))

	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
		case "/broken":
			panic(http.ErrAbortHandler)
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, "here")
		}
	})
	server := httptest.NewServer(requestid.Middleware(traces.Wrap(RouteAPI, inner)))
	t.Cleanup(server.Close)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	var ids []string
	for _, path := range []string{"/hints", "/silent", "/" + secret + "?key=" + secret, "/broken"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(path, secret) {
			req.Method = "X-" + secret
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		req.Header.Set("X-Api-Key", secret)
		req.Header.Set("Traceparent", "00-"+trace+"-"+parent+"-01")
		req.Header.Set("Tracestate", "a="+secret)
		req.Header.Set("Baggage", "a="+secret)
		req.Header.Set("User-Agent", secret)
		resp, err := server.Client().Do(req)
		if err != nil {
			continue // the one that broke off
		}
		ids = append(ids, resp.Header.Get(requestid.Header))
		_ = resp.Body.Close()
	}
	server.Close() // the handlers have returned
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	want := []string{"GET api 503 STATUS_CODE_ERROR", "GET api - STATUS_CODE_UNSET", "_OTHER api 200 STATUS_CODE_UNSET", "GET api - STATUS_CODE_UNSET"}
	if len(c.spans) != len(want) {
		t.Fatalf("%d spans, want %d", len(c.spans), len(want))
	}
	// A span ends after the client has its answer, and so after the next begins.
	slices.SortFunc(c.spans, func(a, b *tracepb.Span) int { return cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano) })
	for i, span := range c.spans {
		attributes := map[string]string{"http.response.status_code": "-"}
		for _, a := range span.Attributes {
			attributes[a.Key] = a.Value.GetStringValue()
			if a.Key == "http.response.status_code" {
				attributes[a.Key] = fmt.Sprint(a.Value.GetIntValue())
			}
		}
		got := strings.Join([]string{span.Name, attributes["http.response.status_code"], span.Status.GetCode().String()}, " ")
		if got != want[i] || i < len(ids) && attributes["cube.request_id"] != ids[i] || len(attributes) > 4 {
			t.Errorf("span %s with %v, want %s", got, attributes, want[i])
		}
		if hex.EncodeToString(span.TraceId) == trace || len(span.ParentSpanId) > 0 {
			t.Errorf("a client's trace took the span: %v", span)
		}
		if len(span.Links) != 1 || hex.EncodeToString(span.Links[0].TraceId) != trace || hex.EncodeToString(span.Links[0].SpanId) != parent || span.Links[0].TraceState != "" {
			t.Errorf("links %v", span.Links)
		}
	}
	if bytes.Contains(c.sent, []byte(secret)) {
		t.Error("a span holds a secret")
	}
}

func TestWithoutACollectorThereIsNothing(t *testing.T) {
	for _, variables := range [][]string{
		nil,
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_SDK_DISABLED", "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER", "none"},
	} {
		forget(t)
		for i := 0; i < len(variables); i += 2 {
			t.Setenv(variables[i], variables[i+1])
		}
		traces, err := NewTraces(t.Context(), slog.New(slog.DiscardHandler))
		if traces != nil || err != nil {
			t.Errorf("%v: traces %v, %v", variables, traces, err)
		}
	}
	var none *Traces
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	none.Wrap(RouteAPI, http.HandlerFunc(func(got http.ResponseWriter, _ *http.Request) {
		if got != http.ResponseWriter(w) {
			t.Error("there is something between")
		}
	})).ServeHTTP(w, r)
	if err := none.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestVariablesThatCannotBe(t *testing.T) {
	for _, variables := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318/" + secret},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "://" + secret},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://" + secret + ":4317"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317", "OTEL_RESOURCE_ATTRIBUTES", secret},
	} {
		forget(t)
		for i := 0; i < len(variables); i += 2 {
			t.Setenv(variables[i], variables[i+1])
		}
		_, err := NewTraces(t.Context(), slog.New(slog.DiscardHandler))
		if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "OTEL_") {
			t.Errorf("%v: error %v, want one that names the variable alone", variables, err)
		}
	}
}

func TestACollectorThatRefusesIsToldOfWithoutSecrets(t *testing.T) {
	refusing := newTaker(t, 400)
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, url := range []string{refusing.URL, strings.Replace(gone.URL, "http://", "http://user:"+secret+"@", 1)} {
		forget(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
		t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
		t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "100") // milliseconds: it would try again for a minute
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization="+secret+",odd "+secret)
		var log bytes.Buffer
		traces := mustTrace(t, slog.New(slog.NewTextHandler(&log, nil)))
		handler := traces.Wrap(RouteSandbox, http.NotFoundHandler())
		for range 3 {
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		err := traces.Close(t.Context())
		if strings.Contains(log.String(), secret) || err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("a secret was told: %s, %v", log.String(), err)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 {
			t.Errorf("%d lines for three losses:\n%s", lines, log.String())
		}
	}
}
