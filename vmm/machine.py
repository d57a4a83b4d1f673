"""The machine: a PC that runs a guest, and what the user sees of it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from devices.vga.text import read_screen
from vmm import guests, loaders
from vmm.board import Board
from vmm.config import Drive, MachineConfig, configure
from vmm.console import CharacterLine, open_line
from vmm.engine import Engine
from vmm.errors import ExitStatus, ImageError, TripleFault, UsageError
from vmm.expect import Conversation
from vmm.host import Host
from vmm.loaders.entry import EntryState
from vmm.physical import PhysicalMemory
from vmm.result import RunResult
from vmm.screenlog import ScreenLog
from vmm.stats import Stats

ACPI_S5 = 0

_MEDIA = {
    loaders.Kind.FLOPPY: ("floppy", "disk"),
    loaders.Kind.DISK: ("ide", "disk"),
    loaders.Kind.ISO: ("ide", "cdrom"),
}
"""Images that go into a drive: interface and medium."""


def _with_medium(config: MachineConfig) -> tuple[MachineConfig, loaders.Kind | None]:
    """The configuration with an image that is a disk, diskette or CD in its drive; and the image's kind."""
    if config.image is None:
        return config, None
    with loaders.Image.open(config.image) as image:
        kind = loaders.recognise(image)
    if kind not in _MEDIA:
        return config, kind
    interface, media = _MEDIA[kind]
    taken = {(drive.interface, drive.index) for drive in config.drives}
    places = (2, 0, 1, 3) if media == "cdrom" else (0, 1, 2, 3) if interface == "ide" else (0, 1)
    index = next((n for n in places if (interface, n) not in taken), None)
    if index is None:
        raise UsageError(f"there is no free drive for {config.image}")
    drive = Drive(config.image, interface, index, media)
    letter = "d" if media == "cdrom" else "c" if interface == "ide" else "a"
    return replace(config, drives=(*config.drives, drive), boot=config.boot or letter), kind


class Machine:
    """A virtual PC.  A context manager; use it once.

    ``Machine(config)`` or ``Machine(memory="128M", kernel="linux", ...)``: the keywords of ``MachineConfig``.
    Raises ``UsageError``, ``ImageError`` or ``Unsupported``.
    """

    def __init__(self, config: MachineConfig | None = None, **settings: Any) -> None:
        self.config, self._kind = _with_medium(configure(config, **settings))
        config = self.config
        self.stats = Stats(tc_capacity_bytes=config.tc_size)
        self._stack = ExitStack()
        self._host = Host(config.memory, config.tc_size)
        self._physical = PhysicalMemory(self._host, config.memory)
        self.engine = Engine(self._host, self._physical, self.stats, config.tc_size, config.chaining)
        self.board = Board(self.engine, config)
        self._lines: list[CharacterLine] = []
        self.conversation = Conversation(config.script, config.fail_on)
        self._screen_log = ScreenLog()
        self._result: tuple[int, str] | None = None
        self._started = 0.0
        self._wire()
        self._load()

    # Construction ------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        board, config = self.board, self.config
        for n, channel in enumerate(config.serial):
            line = self._stack.enter_context(open_line(channel))
            self._lines.append(line)
            board.serial_output[n] = self._serial_sink(n, line)
        debug = self._stack.enter_context(open_line(config.debugcon))

        def debug_output(data: bytes) -> None:
            debug.write(data)
            self._heard("debugcon", data)

        board.debug_output = debug_output
        board.on_reset = self._on_reset
        board.on_debug_exit = lambda status: self.end(status, f"the guest ended the run with status {status}")
        board.on_sleep = self._on_sleep
        scheduler = board.scheduler
        scheduler.chores = self._chores
        scheduler.halted_for_ever = lambda: self.end(ExitStatus.HALTED, "the guest halted for ever (HLT with interrupts off)")
        scheduler.last_insn = config.max_insns

    def _serial_sink(self, n: int, line: CharacterLine):  # type: ignore[no-untyped-def]
        source = f"serial{n}"

        def sink(data: bytes) -> None:
            line.write(data)
            self._heard(source, data)

        return sink

    def _load(self) -> None:
        """Put the image into memory and the CPU at its first instruction."""
        config = self.config
        image = config.kernel or (config.image if self._kind not in _MEDIA else None)
        state: EntryState | None = None
        if image is not None:
            initrd = b""
            if config.initrd is not None:
                initrd = config.initrd.read_bytes()
            options = loaders.Options(append=config.append, initrd=initrd)
            state = loaders.load(image, self._physical, config.memory, options)
        if state is not None and not state.firmware:
            for address, content in state.roms:
                self._physical.add_rom(address, content)
            self.board.without_firmware()
            loaders.enter(self.engine.cpu, state)
        else:
            self._load_firmware(state)
        self.engine.cpu.on_control_change("cr0")

    def _load_firmware(self, state: EntryState | None) -> None:
        config, board = self.config, self.board
        bios = config.bios or guests.path("seabios")
        data = bios.read_bytes()
        if not 0 < len(data) <= 16 << 20 or len(data) % 0x1_0000:
            raise ImageError(f"-bios: {bios} is {len(data)} bytes long, not a multiple of 64K up to 16M")
        board.load_bios(data)
        vgabios = config.vgabios or guests.path("vgabios")
        board.fw_cfg.add_file("vgaroms/vgabios.bin", vgabios.read_bytes())

    # Running ---------------------------------------------------------------------------------------------------

    def run(self) -> RunResult:
        """Run until something ends the run."""
        self._started = perf_counter()
        self._result = None
        board, engine = self.board, self.engine
        board.scheduler.start(board.devices)
        try:
            engine.run()
        except TripleFault as fault:
            self.end(ExitStatus.TRIPLE_FAULT, str(fault))
        except KeyboardInterrupt:
            self.end(ExitStatus.INTERRUPTED, "interrupted by Ctrl-C")
        seconds = perf_counter() - self._started
        self._listen_to_screen()
        self._fill_statistics(seconds)
        status, reason = self._result or (ExitStatus.INTERNAL, "the run ended without a reason")
        return RunResult(int(status), reason, engine.insns, seconds)

    def end(self, status: int, reason: str) -> None:
        """End the run; the first reason given counts."""
        if self._result is None:
            self._result = (status, reason)
        self.engine.stop()

    def _chores(self) -> None:
        """Look after the host: limits of the run, the screen, input."""
        config = self.config
        if config.max_insns is not None and self.engine.insns >= config.max_insns:
            self.end(ExitStatus.TIMEOUT, f"{config.max_insns} instructions have retired (--max-insns)")
        if config.timeout is not None and perf_counter() - self._started > config.timeout:
            self.end(ExitStatus.TIMEOUT, f"{config.timeout:g} seconds have passed (--timeout){self._waiting()}")
        self._listen_to_screen()
        for n, line in enumerate(self._lines):
            data = line.read()
            if data:
                self._type(n, data)
        self._send()

    def _waiting(self) -> str:
        pattern = self.conversation.waiting_for
        return f" while waiting for {pattern!r}" if pattern else ""

    def _type(self, n: int, data: bytes) -> None:
        uart = self.board.uarts[n]
        self.board.clock.now = self.engine.now
        uart.receive(data)
        self.board.scheduler.poll(uart)

    def _send(self) -> None:
        """Type what the conversation has to say, where it was last spoken to."""
        conversation, board = self.conversation, self.board
        target = conversation.talks_to
        if target is None:
            return
        board.clock.now = self.engine.now
        if target.startswith("serial"):
            uart = board.uarts[int(target[6:])]
            conversation.deliver(target, uart.receive)
            board.scheduler.poll(uart)
        else:
            conversation.deliver(target, self._type_keys)
            board.scheduler.poll(board.i8042)
        self._check_outcome()

    def _type_keys(self, data: bytes) -> int:
        self.board.i8042.keyboard.type(data.decode("utf-8", "replace").replace("\r", "\n").replace("\n", "<enter>"))
        return len(data)

    def _heard(self, source: str, data: bytes | str) -> None:
        self.conversation.feed(source, data)
        self._check_outcome()

    def _check_outcome(self) -> None:
        if self.conversation.outcome is not None:
            status, reason = self.conversation.outcome
            self.end(status, reason)

    def _listen_to_screen(self) -> None:
        screen = read_screen(self.board.vga)
        if screen is not None:
            text = self._screen_log.update(screen.lines())
            if text:
                self._heard("screen", text)

    def _on_reset(self) -> None:
        if not self.config.reboot:
            self.end(ExitStatus.OK, "the guest reset the machine (-no-reboot)")

    def _on_sleep(self, slp_typ: int) -> None:
        if slp_typ == ACPI_S5:
            self.end(ExitStatus.OK, "the guest switched the machine off")

    def _fill_statistics(self, seconds: float) -> None:
        stats, cache = self.stats, self.engine.cache
        counters = cache.counters
        stats.guest_insns = self.engine.insns
        stats.tc_fragments = len(cache)
        stats.tc_bytes = cache.bytes_used
        stats.translations = counters.fragments_made
        stats.translated_insns.clear()
        stats.translated_insns.update(counters.translated)
        stats.translated_bytes = counters.guest_bytes
        stats.emitted_bytes = counters.host_bytes
        stats.chain_direct = counters.chained
        stats.evictions = counters.evictions
        stats.flushes = counters.flushes
        stats.invalidations.update(counters.invalidations)
        stats.hidden_faults = self.engine.mmu.hidden_faults
        spent = stats.seconds
        spent["tc"] = seconds - spent["translate"] - spent["callout"] - spent["device"] - spent["idle"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the terminal, files and memory."""
        self._stack.close()
        for backend in self.board.backends:
            backend.flush()
        self._host.close()
