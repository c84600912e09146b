package telemetry

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"cube/internal/requestid"
)

// Traces makes a span for each request and hands them to a collector. A nil one
// makes none.
type Traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// complainEvery is how often at most the log is told that the collector takes
// nothing.
const complainEvery = time.Minute

// NewTraces makes traces if OpenTelemetry's variables name a collector,
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, and returns
// nil if they do not, or say that none are wanted. The protocol is http/protobuf.
// The other variables of the exporter, the sampler and the resource hold too.
// Errors show no variable's value, which may be a secret.
func NewTraces(ctx context.Context, log *slog.Logger) (*Traces, error) {
	endpoint := tracesEndpoint()
	if endpoint == "" {
		return nil, nil
	}
	// The library takes its default for what it cannot read, in silence.
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errEndpoint
	}
	if p := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); p != "" && p != "http/protobuf" {
		return nil, errors.New("OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent as http/protobuf alone: write that, and the collector's port for it, which is mostly 4318")
	}
	// The library would write what it does not understand of the variables, the
	// headers with their keys too, to the standard error.
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(complain(log))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, errEndpoint
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "cube-api")), resource.WithFromEnv())
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES: write name=value pairs with commas between them")
	}
	return newTraces(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)), nil
}

func newTraces(options ...sdktrace.TracerProviderOption) *Traces {
	provider := sdktrace.NewTracerProvider(options...)
	return &Traces{provider: provider, tracer: provider.Tracer("cube")}
}

var errEndpoint = errors.New("OTEL_EXPORTER_OTLP_ENDPOINT and the variables beside it do not make a way to a collector: write its URL, such as http://127.0.0.1:4318")

// tracesEndpoint is the collector's URL, "" if no traces are wanted.
func tracesEndpoint() string {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return ""
	}
	return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

// complain logs that spans were lost, now and then, and why as far as that tells
// no URL and nothing that the collector wrote.
func complain(log *slog.Logger) otel.ErrorHandlerFunc {
	var last atomic.Int64 // Unix nanoseconds
	return func(err error) {
		now, before := time.Now().UnixNano(), last.Load()
		if now-before < int64(complainEvery) || !last.CompareAndSwap(before, now) {
			return
		}
		reason := "the collector did not take them"
		if e, ok := errors.AsType[*url.Error](err); ok {
			reason = e.Err.Error()
		}
		log.Warn("traces are lost: is the collector of OTEL_EXPORTER_OTLP_ENDPOINT there?", "reason", reason)
	}
}

// Close hands over what is left, for as long as ctx lasts.
func (t *Traces) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		// The error may show the collector's URL.
		return errors.New("the last traces were not handed over")
	}
	return nil
}

// Route is the kind of way that a request takes: a path would show names and
// ids.
type Route string

// The routes.
const (
	RouteAPI     Route = "api"
	RouteSandbox Route = "sandbox"
)

// methods are those that a span names; others are the client's invention.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodOptions, http.MethodConnect, http.MethodTrace,
}

// Wrap makes a span for each request on a route, named by its method and route.
// It stands inside of requestid.Middleware.
//
// Every request is a trace of its own, with a link to the client's span if it
// sent a traceparent: a stranger decides neither which trace a span belongs to
// nor what is sampled. The client's tracestate and baggage are not read.
func (t *Traces) Wrap(route Route, next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if !slices.Contains(methods, method) {
			method = "_OTHER" // by OpenTelemetry's conventions
		}
		options := []trace.SpanStartOption{
			trace.WithNewRoot(),
			trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(
				attribute.String("http.request.method", method),
				attribute.String("cube.route", string(route)),
				attribute.String("cube.request_id", requestid.From(r.Context())),
			),
		}
		if from := clientSpan(r); from.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: from}))
		}
		ctx, span := t.tracer.Start(r.Context(), method+" "+string(route), options...)
		writer := &statusWriter{ResponseWriter: w}
		defer func() {
			if writer.status != 0 { // else the handler broke off, or took the connection over
				span.SetAttributes(attribute.Int("http.response.status_code", writer.status))
			}
			if writer.status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}()
		next.ServeHTTP(writer, r.WithContext(ctx))
	})
}

// clientSpan reads the client's traceparent, if it sent one.
func clientSpan(r *http.Request) trace.SpanContext {
	sent := r.Header.Values("Traceparent")
	if len(sent) != 1 {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": sent[0]}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int // 0 before the answer
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}
