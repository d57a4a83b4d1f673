"""82077AA floppy controller in PC/AT mode (Intel data sheet 290166).

Spindles are always up to speed, and mechanics take a small fixed time: see the ``*_NS`` constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from devices.backends import Disk
from devices.core import NEVER, Clock, Device, Line, Ports
from devices.dma import DmaChannel
from devices.fdc import registers as reg
from devices.fdc.formats import Drive
from devices.fdc.registers import DATA_COMMANDS, HOST_WRITES, Command, DriveState, FdcState, Phase, decode
from devices.fdc.transfer import DataCommands

BASE = 0x3F0
RESET_NS = 10_000
SEEK_NS = 100_000
LAST_TRACK = 84
"""Where the head meets its stop."""
RECALIBRATE_STEPS = 79


class Fdc(Device):
    """One controller with up to two drives on IRQ line *interrupt* and DMA channel *channel*."""

    name = "fdc"

    def __init__(
        self,
        clock: Clock,
        interrupt: Line,
        channel: DmaChannel,
        drives: Sequence[Drive] = (),
        base: int = BASE,
    ) -> None:
        self.state: FdcState = FdcState()
        self.drives = drives
        self.base = base
        self._clock = clock
        self._interrupt = interrupt
        self._channel = channel
        self._data = DataCommands(clock, channel, drives)
        self._commands: dict[Command, Callable[[bytearray], bytes]] = {
            Command.SPECIFY: self._specify,
            Command.SENSE_DRIVE_STATUS: self._sense_drive_status,
            Command.RECALIBRATE: self._recalibrate,
            Command.SENSE_INTERRUPT: self._sense_interrupt,
            Command.DUMPREG: self._dumpreg,
            Command.SEEK: self._seek,
            Command.VERSION: lambda code: bytes((reg.VERSION_ENHANCED,)),
            Command.PERPENDICULAR: self._perpendicular,
            Command.CONFIGURE: self._configure,
            Command.LOCK: self._lock,
            Command.INVALID: lambda code: bytes((reg.ST0_INVALID,)),
        }

    def reset(self) -> None:
        """RESET pin: as power-on, but for the change lines, which are the drives'."""
        changed = [drive.changed for drive in self.state.drives]
        self.state = FdcState()
        for drive, level in zip(self.state.drives, changed, strict=True):
            drive.changed = level
        self._channel.request(False)
        self._update()

    def insert(self, drive: int, disk: Disk | None) -> None:
        """Change the diskette in *drive*; ``None`` empties it.

        Raises ``ValueError`` if the image is too large for any format.
        """
        self.drives[drive].insert(disk)
        self.state.drives[drive].changed = True

    def ports(self) -> Sequence[Ports]:
        return (
            Ports(self.base, 6, self.read, self.write, names=("SRA", "SRB", "DOR", "TDR", "MSR/DSR", "FIFO")),
            Ports(self.base + reg.DIR, 1, self.read, self.write, names=("DIR/CCR",)),
        )

    def _update(self) -> None:
        state = self.state
        self._interrupt.set((state.interrupt or state.sense_interrupt) and bool(state.dor & reg.DOR_DMA_GATE))

    # Read ----------------------------------------------------------------------------------------
    def read(self, port: int, size: int) -> int:
        """IN from one of the registers; SRA and SRB do not exist in PC/AT mode."""
        state = self.state
        match port - self.base:
            case reg.DOR:
                return state.dor
            case reg.TDR:
                return state.tdr
            case reg.MSR:
                return self._main_status()
            case reg.FIFO:
                return self._read_fifo()
            case reg.DIR:
                return reg.DIR_FLOATING | (reg.DIR_CHANGE if self._changed() else 0)
        return 0xFF

    def _main_status(self) -> int:
        state = self.state
        if self._in_reset():
            return 0
        status = sum(1 << n for n, drive in enumerate(state.drives) if drive.seek_due != NEVER)
        if state.phase == Phase.COMMAND:
            return status | reg.MSR_RQM | (reg.MSR_BUSY if state.buffer else 0)
        if state.phase == Phase.RESULT:
            return status | reg.MSR_RQM | reg.MSR_DIO | reg.MSR_BUSY
        status |= reg.MSR_BUSY
        if state.specify[1] & reg.SPECIFY_ND:
            status |= reg.MSR_NON_DMA
        if state.host_turn:
            status |= reg.MSR_RQM | (0 if decode(state.transfer.opcode) in HOST_WRITES else reg.MSR_DIO)
        return status

    def _changed(self) -> bool:
        """DSKCHG of the drive that DOR selects."""
        n = self.state.dor & reg.DOR_SELECT
        return n < len(self.drives) and (self.drives[n].disk is None or self.state.drives[n].changed)

    def _read_fifo(self) -> int:
        state = self.state
        value = 0
        if state.phase == Phase.RESULT:
            value = state.buffer.pop(0)
            state.interrupt = False
            if not state.buffer:
                state.phase = Phase.COMMAND
        elif state.host_turn and decode(state.transfer.opcode) not in HOST_WRITES:
            value = self._data.host_read(state)
        self._update()
        return value

    # Write ---------------------------------------------------------------------------------------
    def write(self, port: int, size: int, value: int) -> None:
        """OUT to one of the registers."""
        state = self.state
        match port - self.base:
            case reg.DOR:
                self._write_dor(value)
            case reg.TDR:
                state.tdr = value & 3
            case reg.DSR:
                state.rate = value & 3
                if value & reg.DSR_RESET:
                    self._begin_reset()
                    self._end_reset()
            case reg.FIFO:
                self._write_fifo(value)
            case reg.CCR:
                state.rate = value & 3

    def _write_dor(self, value: int) -> None:
        state = self.state
        released = value & ~state.dor & reg.DOR_RESET_N
        state.dor = value
        if not value & reg.DOR_RESET_N:
            self._begin_reset()
        elif released:
            self._end_reset()
        self._update()

    def _in_reset(self) -> bool:
        return not self.state.dor & reg.DOR_RESET_N or self.state.reset_due != NEVER

    def _begin_reset(self) -> None:
        """A software reset keeps DOR, the data rate, the heads, SPECIFY's values and what LOCK protects."""
        old = self.state
        drives = [DriveState(d.track, d.pcn, d.sector, d.changed) for d in old.drives]
        new = FdcState(dor=old.dor, tdr=old.tdr, rate=old.rate, drives=drives, specify=old.specify, lock=old.lock)
        if old.lock:
            keep = reg.CONFIGURE_EFIFO | reg.CONFIGURE_FIFOTHR
            new.config = old.config & keep
            new.pretrk = old.pretrk
        self.state = new
        self._channel.request(False)
        self._update()

    def _end_reset(self) -> None:
        if self.state.dor & reg.DOR_RESET_N:
            self.state.reset_due = self._clock.now + RESET_NS

    def _write_fifo(self, value: int) -> None:
        state = self.state
        if self._in_reset():
            return
        if state.phase == Phase.EXECUTION:
            if state.host_turn and decode(state.transfer.opcode) in HOST_WRITES:
                self._data.host_write(state, value)
                self._update()
            return
        if state.phase == Phase.RESULT:
            return
        state.buffer.append(value)
        if len(state.buffer) == decode(state.buffer[0]).length:
            self._execute(decode(state.buffer[0]))

    def _execute(self, command: Command) -> None:
        state = self.state
        if command is not Command.SENSE_INTERRUPT:
            # Whoever goes on without asking for all four drives' state after a reset does not want to know it.
            state.senses = [st0 for st0 in state.senses if st0 & reg.ST0_READY_CHANGED != reg.ST0_READY_CHANGED]
        if command in DATA_COMMANDS:
            state.sense_interrupt = False  # else the command's own interrupt would be no edge
            self._data.start(state)
        else:
            result = self._commands[command](state.buffer)
            state.buffer = bytearray(result)
            state.phase = Phase.RESULT if result else Phase.COMMAND
        self._update()

    # Commands without data: the command's bytes in, the result's bytes out ----------------------------
    def _specify(self, code: bytearray) -> bytes:
        self.state.specify = code[1:3]
        return b""

    def _sense_drive_status(self, code: bytearray) -> bytes:
        n = code[1] & 3
        status = reg.ST3_ALWAYS | code[1] & 7
        if n < len(self.drives):
            disk = self.drives[n].disk
            if disk is not None and disk.read_only:
                status |= reg.ST3_WRITE_PROTECT
            if not self.state.drives[n].track:
                status |= reg.ST3_TRACK_0
        return bytes((status,))

    def _recalibrate(self, code: bytearray) -> bytes:
        n = code[1] & 3
        drive = self.state.drives[n]
        self._step(n, max(drive.track - RECALIBRATE_STEPS, 0))
        drive.pcn = 0
        found = n < len(self.drives) and drive.track == 0
        self._begin_seek(n, n if found else n | reg.ST0_ABNORMAL | reg.ST0_EQUIPMENT_CHECK)
        return b""

    def _seek(self, code: bytearray) -> bytes:
        n = code[1] & 3
        drive = self.state.drives[n]
        if not code[0] & reg.SEEK_RELATIVE:
            steps = code[2] - drive.pcn
        else:
            steps = code[2] if code[0] & reg.SEEK_IN else -code[2]
        self._step(n, drive.track + steps)
        drive.pcn = drive.pcn + steps & 0xFF
        self._begin_seek(n, n)  # ST0's H is always 0 after a seek
        return b""

    def _step(self, n: int, track: int) -> None:
        """Move the head; step pulses clear the change line of a drive with a diskette."""
        drive = self.state.drives[n]
        if track != drive.track and n < len(self.drives) and self.drives[n].disk is not None:
            drive.changed = False
        drive.track = min(max(track, 0), LAST_TRACK)

    def _begin_seek(self, n: int, status: int) -> None:
        drive = self.state.drives[n]
        drive.seek_due = self._clock.now + SEEK_NS
        drive.seek_status = status | reg.ST0_SEEK_END

    def _sense_interrupt(self, code: bytearray) -> bytes:
        state = self.state
        if not state.senses:
            return bytes((reg.ST0_INVALID,))
        st0 = state.senses.pop(0)
        state.sense_interrupt = False
        self._update()
        # The four of a reset come with one interrupt, those of seeks with one each.
        state.sense_interrupt = any(bool(other & reg.ST0_SEEK_END) for other in state.senses)
        return bytes((st0, state.drives[st0 & 3].pcn))

    def _dumpreg(self, code: bytearray) -> bytes:
        state = self.state
        lock = reg.LOCK_LOCK if state.lock else 0
        cylinders = (drive.pcn for drive in state.drives)
        return bytes((*cylinders, *state.specify, state.sc_eot, lock | state.perpendicular, state.config, state.pretrk))

    def _perpendicular(self, code: bytearray) -> bytes:
        keep = 0 if code[1] & reg.PERPENDICULAR_OW else 0x3C
        self.state.perpendicular = self.state.perpendicular & keep | code[1] & 0x3F & ~keep
        return b""

    def _configure(self, code: bytearray) -> bytes:
        self.state.config = code[2] & 0x7F
        self.state.pretrk = code[3]
        return b""

    def _lock(self, code: bytearray) -> bytes:
        self.state.lock = bool(code[0] & reg.LOCK_LOCK)
        return bytes((0x10 if self.state.lock else 0,))

    # Time ----------------------------------------------------------------------------------------
    def next_event(self) -> int:
        state = self.state
        return min(state.due, state.reset_due, *(drive.seek_due for drive in state.drives))

    def advance(self) -> None:
        """End resets and seeks, and go on with the execution phase."""
        state = self.state
        now = self._clock.now
        if now >= state.reset_due:
            state.reset_due = NEVER
            state.senses = [reg.ST0_READY_CHANGED | n for n in range(4)]
            state.sense_interrupt = True
        for n, drive in enumerate(state.drives):
            if now >= drive.seek_due:
                drive.seek_due = NEVER
                state.senses = [st0 for st0 in state.senses if st0 & 3 != n] + [drive.seek_status]
                state.sense_interrupt = True
        if now >= state.due:
            self._data.go_on(state)
        self._update()
