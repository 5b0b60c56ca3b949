"""``presslab demo``: from an empty folder to a report one can check against the truth."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from experiments.clock import FileClock
from experiments.content import load_catalogue
from experiments.errors import ConfigError
from experiments.files import read_json, replace_file, replace_json
from experiments.lifecycle import Step, draft, publish_plan, start, stop
from experiments.migrate import migrate
from experiments.serving.publish import current_signals
from experiments.serving.slate import SlateRules
from experiments.settings import Settings, load_settings
from experiments.tables import control_engine
from fixtures.behaviour import Memory
from fixtures.library import DAY, Library
from fixtures.readers import Reader, population
from fixtures.truth import Stage, Truth, true_effects
from fixtures.worlds import World, draw_world, world_called
from web.demo.archive import Archive
from web.demo.browse import Wire, browser_of
from web.demo.forced import Forced
from web.demo.history import Past, Stretch, live_past
from web.demo.life import Life, live
from web.demo.newspaper import build_newspaper
from web.demo.outcome import outcome, show
from web.demo.plan import Plan, first_experiment, second_experiment, served_shares
from web.demo.processes import Processes
from web.demo.wait import run_jobs, wait_loaded
from web.desk import load_desk
from web.keys import tokens_of
from web.serve import check_address

__all__ = ["run_demo"]

HISTORY_DAYS = 7
POOL_H = 7 * 24.0
DEADLINE_MS = 250  # two weeks pass in a minute beside trainings: 30 ms would say how busy the machine is, not how fast an arm is
LAG_S = 3 * 3_600.0  # signals older than this make the readers wait


@dataclass(slots=True)
class Demo:
    """What one run carries from phase to phase."""

    plan: Plan
    settings: Settings
    world: World
    console: Console
    readers: tuple[Reader, ...] = ()
    past: Past = field(default_factory=Past)
    truth: Truth | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    life: Life | None = None
    requests: int = 0

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def days(self) -> int:
        """Of the first experiment; the last day belongs to the second."""
        return self.plan.days - 1

    @property
    def start(self) -> float:
        return self.plan.now.timestamp() - self.plan.days * DAY

    def reader_id(self, reader: Reader) -> str:
        return blake2b(f"{self.plan.seed}/{reader.key}".encode(), digest_size=16).hexdigest()

    @contextmanager
    def phase(self, name: str, says: str) -> Iterator[Progress]:
        """Time a phase and show that it is under way."""
        began = time.monotonic()
        columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=not self.console.is_terminal) as progress:
            task = progress.add_task(says, total=None)
            yield progress
            progress.update(task, total=1, completed=1)
        self.seconds[name] = round(time.monotonic() - began, 2)
        if not self.console.is_terminal:
            self.console.print(f"✓ {says}  {self.seconds[name]:.1f} s")


def run_demo(plan: Plan, *, as_json: bool) -> None:
    """Run the whole story and show or print its outcome; then keep serving unless ``plan.leave``."""
    world = world_called(plan.world) if plan.world else draw_world(plan.seed)
    settings = _settings(plan)
    check_address(settings)
    demo = Demo(plan, settings, world, Console(stderr=True, highlight=False))
    began = time.monotonic()
    with demo.phase("newspaper", "Building the Larkhaven Courier"):
        _build(demo)
    processes = Processes(settings)
    try:
        _story(demo, processes)
        demo.seconds["total"] = round(time.monotonic() - began, 2)
        result = outcome(demo)
        FileClock(demo.home / "clock").set(0)  # from here on it is now, and jobs become due
        replace_json(demo.home / "demo.json", result)
        show(result, demo.console, as_json=as_json)
        if not plan.leave:
            _keep_serving(demo, processes)
    finally:
        processes.stop()


def _settings(plan: Plan) -> Settings:
    """Prepare the home folder; only a folder of an earlier demo is emptied."""
    home = plan.home.absolute()
    if home.exists() and any(home.iterdir()):
        if read_json(home / "demo.json") is None:
            raise ConfigError(f"{home} holds an installation that is not a demo; it is left alone.", "Name another folder: --home DIR.")
        shutil.rmtree(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_json(home / "demo.json", {"state": "building"})
    lines = [
        'profile = "demo"',
        f"port = {plan.port}",
        f"pool_hours = {POOL_H}",
        "workers = 2",
        "threads = 8",
        f"deadline_ms = {DEADLINE_MS}",
        "",
    ]
    replace_file(home / "presslab.toml", "\n".join(lines).encode())
    return load_settings(home)


def _build(demo: Demo) -> None:
    migrate(demo.home)
    tokens_of(demo.home)
    build_newspaper(demo.home, demo.plan.now)
    library = Library.of(load_catalogue(demo.home).articles)
    demo.readers = population(demo.world, library, n=demo.plan.readers, seed=demo.plan.seed)
    gc.freeze()  # the readers stay to the end: looking through them for garbage again and again takes time
    gc.set_threshold(50_000, 20, 100)


def _story(demo: Demo, processes: Processes) -> None:
    clock = FileClock(demo.home / "clock")
    clock.set(round(demo.start * 1e6))
    with demo.phase("processes", "Starting the site and the worker"):
        for name in ("worker", "serve"):
            processes.start(name)
        with_history = Stretch(demo.start - HISTORY_DAYS * DAY, HISTORY_DAYS, demo.plan.seed)
        catalogue, desk = load_catalogue(demo.home), load_desk(demo.home)
        demo.past = live_past(demo.readers, demo.world, catalogue, with_history, home=demo.home, desk=desk, reader_id=demo.reader_id)
        processes.wait_ready()
        wait_loaded(demo.home, check=processes.check)
    with demo.phase("training", "Training and publishing the models"):
        run_jobs(demo.home, ("text", "signals", "als"), clock=clock, check=processes.check)
        run_jobs(demo.home, ("ranked", "text", "assignment"), clock=clock, check=processes.check, wait=False)  # readers need not wait
    engine, archive = control_engine(demo.home), Archive(demo.home)
    archive.keep()
    first, second = first_experiment(demo.days), second_experiment()
    _begin(demo, first, demo.start)
    with demo.phase("experiment", f"{len(demo.readers):,} readers live through {demo.days} days"):
        demo.life = _life(demo, clock, catalogue)
        _days(demo, processes, archive, Stretch(demo.start, demo.days, demo.plan.seed))
        end = demo.start + demo.days * DAY
        stop(engine, first.name, Step("demo", datetime.fromtimestamp(end, UTC), "planned end"))
    run_jobs(demo.home, (), clock=clock, check=processes.check)  # few readers live faster than the ranker of the second experiment trains
    _begin(demo, second, end)
    run_jobs(demo.home, ("text",), clock=clock, check=processes.check, wait=False)  # the ranker goes live: it knows today's articles
    with demo.phase("second", "One more day for the second experiment"):
        _days(demo, processes, archive, Stretch(end, 1, demo.plan.seed))
        wait_loaded(demo.home, check=processes.check)
    with demo.phase("jobs", "Report, explanation, drift, registry; and what each arm was truly worth"):
        run_jobs(
            demo.home, ("report", "explanation", "drift", "recall", "registry", "retention"), clock=clock, check=processes.check, wait=False
        )
        demo.truth = _truth(demo)
        run_jobs(demo.home, (), clock=clock, check=processes.check)


def _begin(demo: Demo, experiment: Any, at: float) -> None:
    engine, when = control_engine(demo.home), datetime.fromtimestamp(at, UTC)
    draft(engine, experiment, Step("demo", when, "the demo's question"))
    start(engine, experiment.name, Step("demo", when, "planned start"))
    shares = served_shares(experiment, demo.world) if experiment.name == "related" else {}
    publish_plan(demo.home, engine, at=when, shares=shares)
    time.sleep(0.8)  # web processes look for a new plan every half second


def _life(demo: Demo, clock: FileClock, catalogue: Any) -> Life:
    tokens = tokens_of(demo.home)
    issued_s = round(demo.start - HISTORY_DAYS * DAY)
    browsers = {
        r.key: browser_of(
            r,
            tokens,
            reader_id=demo.reader_id(r),
            issued_s=issued_s,
            reads=tuple(demo.past.reads.get(r.key, ())),
            last_s=demo.past.last_s.get(r.key, 0),
        )
        for r in demo.readers
    }
    memories = {r.key: Memory(read=dict.fromkeys(demo.past.reads.get(r.key, ())), chosen=r.agrees) for r in demo.readers}
    wire = Wire(demo.settings.host, demo.settings.port, simulated=tokens.sign("simulated", "1"))
    return Life(demo.readers, demo.world, Library.of(catalogue.articles), browsers, memories, wire, clock)


def _days(demo: Demo, processes: Processes, archive: Archive, stretch: Stretch) -> None:
    assert demo.life is not None
    state = {"checked": 0.0}

    def tick() -> None:
        if time.monotonic() - state["checked"] > 0.5:
            state["checked"] = time.monotonic()
            processes.check()
            archive.keep()

    demo.life.lag = lambda now: now - float((current_signals(demo.home) or {"at": 0.0})["at"]) > LAG_S
    live(demo.life, stretch, tick=tick)
    archive.keep()


def _truth(demo: Demo) -> Truth:
    catalogue, desk, first = load_catalogue(demo.home), load_desk(demo.home), first_experiment(demo.days)
    forced = Forced(demo.home, catalogue, desk, rules=SlateRules(pool_h=POOL_H), salt=first.salt)
    stage = Stage(Library.of(catalogue.articles), forced.visit, forced.front, demo.start, demo.days, first.window_days, demo.past.reads)
    return true_effects(demo.readers, demo.world, stage, arms=tuple(first.shares), control=first.control, seed=demo.plan.seed)


def _keep_serving(demo: Demo, processes: Processes) -> None:
    publish_plan(demo.home, control_engine(demo.home), at=datetime.now(UTC))
    demo.console.print(f"\nThe site keeps serving on http://{demo.settings.host}:{demo.settings.port}/  (Ctrl-C ends it)")
    try:
        while True:
            time.sleep(1)
            processes.check()
    except KeyboardInterrupt:
        demo.console.print("Stopped.")
