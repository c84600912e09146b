package process

import (
	"strconv"

	pb "cube/envd/gen/process"
	"cube/envd/logs"
)

// maxCommand and maxTag are how much of a command's name and of a process's tag
// are written down, in bytes: the tag stands with each line.
const (
	maxCommand = 256
	maxTag     = 256
)

// diary writes down what a process prints, and how it ended, for the sandbox's
// log. What happens on a terminal it does not: people type passwords there. A nil
// diary writes nothing.
type diary struct {
	log      *logs.Log
	fields   map[string]string
	out, err *logs.Writer // each for the goroutine that passes that stream on
}

func newDiary(log *logs.Log, info *pb.ProcessInfo) *diary {
	if log == nil {
		return nil
	}
	about := func(stream string) map[string]string {
		fields := map[string]string{"pid": strconv.FormatUint(uint64(info.GetPid()), 10)}
		if info.Tag != nil {
			fields["tag"] = info.GetTag()[:min(len(info.GetTag()), maxTag)]
		}
		if stream != "" {
			fields["stream"] = stream
		}
		return fields
	}
	d := &diary{log: log, fields: about(""), out: log.Writer("info", about("stdout")), err: log.Writer("error", about("stderr"))}
	command := info.GetConfig().GetCmd()
	log.Add("debug", "process started: "+command[:min(len(command), maxCommand)], d.fields)
	return d
}

// note takes an event of the process.
func (d *diary) note(e *pb.ProcessEvent) {
	if d == nil {
		return
	}
	_, _ = d.out.Write(e.GetData().GetStdout())
	_, _ = d.err.Write(e.GetData().GetStderr())
}

// end is called when all output was noted.
func (d *diary) end(how string) {
	if d == nil {
		return
	}
	d.out.Close()
	d.err.Close()
	d.log.Add("debug", "process ended: "+how, d.fields)
}
