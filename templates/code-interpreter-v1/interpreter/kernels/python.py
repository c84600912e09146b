"""The Python kernel: an IPython shell that runs pieces of code.

A piece is a line of JSON read from descriptor 3; events are lines of JSON
written to descriptor 4. What the code prints goes to the process's own standard
output and error, which the server reads.
"""

import base64
import json
import math
import os
import signal
import sys

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.formatters import BaseFormatter, JSONFormatter
from IPython.core.interactiveshell import InteractiveShell
from traitlets import ObjectName, Unicode
from traitlets.config import Config

jobs = os.fdopen(3, encoding="utf-8")
events = os.fdopen(4, "w", encoding="utf-8")
for descriptor in (3, 4):  # not of what the code starts
    os.set_inheritable(descriptor, False)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.stdin = os.fdopen(0, closefd=False)
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(line_buffering=True, write_through=False)


def plain(value):
    """What JSON can hold of a value: no numbers that are none, no foreign types."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):  # numpy's
        return plain(value.tolist())
    return str(value)


def emit(event):
    sys.stdout.flush()
    sys.stderr.flush()
    events.write(json.dumps(plain(event), ensure_ascii=False) + "\n")
    events.flush()


class Hook(DisplayHook):
    """Shows the value of a piece of code."""

    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        emit({"type": "result", "main": True, "data": format_dict})

    def finish_displayhook(self):
        pass


class Publisher(DisplayPublisher):
    """Shows what code asks to display."""

    def publish(self, data, metadata=None, **_):
        emit({"type": "result", "main": False, "data": data})

    def clear_output(self, wait=False):
        pass


class Shell(InteractiveShell):
    system = InteractiveShell.system_raw  # its output is the code's

    def _showtraceback(self, etype, evalue, stb):
        emit({"type": "error", "name": etype.__name__, "value": str(evalue), "traceback": "\n".join(stb)})


class DataFormatter(BaseFormatter):
    """A table's columns."""

    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = (dict, str)

    def __call__(self, value):
        pandas = sys.modules.get("pandas")  # without it there is no table
        if pandas is None or not isinstance(value, pandas.DataFrame):
            return super().__call__(value)
        return value.to_dict(orient="list")


class ChartFormatter(BaseFormatter):
    """What a figure shows, as data."""

    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = (dict, str)

    def __call__(self, value):
        figure = sys.modules.get("matplotlib.figure")
        if figure is None or not isinstance(value, figure.Figure):
            return super().__call__(value)
        try:
            from e2b_charts import chart_figure_to_dict

            return chart_figure_to_dict(value)
        except Exception:  # a figure that cannot be read has its picture still
            return {}


class DataJSONFormatter(JSONFormatter):
    """Lists and dictionaries that JSON can hold."""

    def __call__(self, value):
        if not isinstance(value, (list, dict)):
            return super().__call__(value)
        try:
            return json.loads(json.dumps(value, default=lambda v: v.tolist())), {"expanded": True}
        except (TypeError, ValueError, AttributeError, RecursionError):
            return super().__call__(value)


def show_pictures():
    """Has pictures that are shown or saved displayed: there is no screen."""
    try:
        from IPython.display import display
        from PIL.Image import Image
        from PIL.ImageShow import UnixViewer
    except ImportError:
        return
    save = Image.save

    def save_and_display(self, fp, format=None, **options):
        if isinstance(fp, (str, os.PathLike)):
            display(self)
        return save(self, fp, format, **options)

    Image.save = save_and_display
    UnixViewer.show_file = lambda self, path, **options: 0


def make_shell():
    config = Config()
    config.InteractiveShell.colors = "NoColor"
    config.HistoryManager.enabled = False
    config.PlainTextFormatter.max_seq_length = 0
    shell = Shell.instance(config=config, displayhook_class=Hook, display_pub_class=Publisher)
    formatters = shell.display_formatter.formatters
    formatters["e2b/data"] = DataFormatter(parent=shell.display_formatter)
    formatters["e2b/chart"] = ChartFormatter(parent=shell.display_formatter)
    formatters["application/json"] = DataJSONFormatter(parent=shell.display_formatter)
    sys.path.insert(0, "")
    sys.argv = [""]
    return shell


known = {}  # the sandbox's environment, as it was set last


def adopt(variables):
    """Takes over the sandbox's environment where it has changed."""
    if variables is None or variables == known:
        return
    if known:  # the memory of one sandbox goes on in another: no two may draw alike
        import random

        random.seed()
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()
    for name, value in variables.items():
        if known.get(name) != value:
            os.environ[name] = value
    for name in known.keys() - variables.keys():
        os.environ.pop(name, None)
    known.clear()
    known.update(variables)


def run(shell, job):
    adopt(job.get("globals"))
    before = {name: os.environ.get(name) for name in job.get("env") or {}}
    os.environ.update(job.get("env") or {})
    try:
        emit({"type": "number_of_executions", "execution_count": shell.execution_count})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        shell.run_cell(job["code"], store_history=True)
    except KeyboardInterrupt:
        emit({"type": "error", "name": "KeyboardInterrupt", "value": "", "traceback": ""})
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shell = make_shell()
    show_pictures()
    for line in jobs:
        run(shell, json.loads(line))
        emit({"type": "done"})


main()
