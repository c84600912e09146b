// Command plot draws the results of bench as SVG: how long creating takes at how
// many at once, how much memory sandboxes take, how long resuming takes for how
// much memory, each with its rivals. It is a module of its own, so that the server
// does not depend on what draws.
//
//	go run . ../results.json ../../docs/bench
//
// It must draw what was measured, and say of what was not where it is from.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// report is what bench writes; only what is drawn is read.
type report struct {
	When    time.Time
	Machine struct {
		Processor string
		Cores     int
	}
	Results []result
}

type result struct {
	Name          string
	Series        string
	X             float64
	P50, P95, P99 float64
}

// published is a figure that a rival tells of itself, on a machine of its own.
type published struct {
	label string
	x, y  float64
}

// chart is one picture.
type chart struct {
	file, title, x, y string
	series            []line
	across            []line // drawn over the whole width: their X means nothing
	published         []published
}

// line is what of which results.
type line struct {
	series, label string
	value         func(result) float64
}

func p50(r result) float64 { return r.P50 }
func p99(r result) float64 { return r.P99 }

// The rivals' figures are those of their own documentation, in November 2026.
var charts = []chart{
	{
		file: "create.svg", title: "Creating a sandbox", x: "at once", y: "milliseconds",
		series: []line{
			{"create", "no pool, p50", p50}, {"create", "no pool, p99", p99},
			{"burst", "from the pool, p50", p50}, {"burst", "from the pool, p99", p99},
		},
		across:    []line{{"runc", "runc run true, p50", p50}},
		published: []published{{"CubeSandbox, mean (its README)", 50, 67}, {"CubeSandbox, p99 (its README)", 50, 137}},
	},
	{
		file: "memory.svg", title: "Memory of an idle sandbox", x: "sandboxes", y: "MiB each",
		series:    []line{{"memory", "proportional set size", p50}, {"available", "that is no longer available", p50}},
		published: []published{{"CubeSandbox (its README)", 200, 23.6}},
	},
	{
		file: "resume.svg", title: "Pausing and resuming", x: "MiB of memory in use", y: "milliseconds",
		series:    []line{{"pause", "pause, p50", p50}, {"resume", "resume to the first answer, p50", p50}},
		published: []published{{"CubeSandbox, pause (its README)", 256, 558}, {"CubeSandbox, resume (its README)", 256, 41.8}},
	},
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: plot RESULTS.json DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(results, dir string) error {
	data, err := os.ReadFile(results)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("%s: %w", results, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	drawn := 0
	for _, c := range charts {
		p, err := c.draw(r)
		if err != nil {
			return fmt.Errorf("%s: %w", c.file, err)
		}
		if p == nil {
			continue // not measured this time
		}
		if err := p.Save(18*vg.Centimeter, 11*vg.Centimeter, filepath.Join(dir, c.file)); err != nil {
			return err
		}
		drawn++
	}
	if drawn == 0 {
		return errors.New("nothing in these results can be drawn: measure create, memory or state")
	}
	return nil
}

// draw returns nil if nothing of a chart was measured.
func (c chart) draw(r report) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s\n%s, %d cores, %s", c.title, r.Machine.Processor, r.Machine.Cores, r.When.Format("2 January 2006"))
	p.X.Label.Text, p.Y.Label.Text = c.x, c.y
	p.Legend.Top, p.Legend.Left = true, true
	p.Y.Min = 0
	p.Add(plotter.NewGrid())
	measured := false
	most := 0.0
	for i, l := range c.series {
		var points plotter.XYs
		for _, one := range r.Results {
			if one.Series == l.series && one.X > 0 {
				points = append(points, plotter.XY{X: one.X, Y: l.value(one)})
				most = max(most, one.X)
			}
		}
		if len(points) == 0 {
			continue
		}
		measured = true
		slices.SortFunc(points, func(a, b plotter.XY) int { return int(a.X - b.X) })
		curve, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		curve.Color, dots.Color = plotutil.Color(i), plotutil.Color(i)
		curve.Width = vg.Points(1.5)
		dots.Shape = draw.CircleGlyph{}
		p.Add(curve, dots)
		p.Legend.Add(l.label, curve, dots)
	}
	if !measured {
		return nil, nil
	}
	for _, l := range c.across {
		i := slices.IndexFunc(r.Results, func(one result) bool { return one.Series == l.series && l.value(one) > 0 })
		if i < 0 {
			continue
		}
		y := l.value(r.Results[i])
		curve, err := plotter.NewLine(plotter.XYs{{X: 0, Y: y}, {X: most, Y: y}})
		if err != nil {
			return nil, err
		}
		curve.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		curve.Color = color.Gray{Y: 90}
		p.Add(curve)
		p.Legend.Add(l.label, curve)
	}
	for i, other := range c.published {
		dot, err := plotter.NewScatter(plotter.XYs{{X: other.x, Y: other.y}})
		if err != nil {
			return nil, err
		}
		dot.Shape, dot.Radius = draw.CrossGlyph{}, vg.Points(5)
		dot.Color = plotutil.Color(4 + i)
		p.Add(dot)
		p.Legend.Add(other.label, dot)
	}
	p.Y.Max *= 1.35 // room for the legend
	return p, nil
}
