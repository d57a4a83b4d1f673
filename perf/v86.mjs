// Runs a guest under v86 and copies its first serial port to stdout: node v86.mjs FOLDER-OF-V86 JOB-AS-JSON.
// The job: {bios, vgabios, memory (MiB), kernel, initrd, append, multiboot, disk}.  Ends when its stdout is closed.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, text] = process.argv.slice(2);
const job = JSON.parse(text);
const { V86 } = await import(pathToFileURL(`${folder}/build/libv86.mjs`));

const image = (path) => {
    const bytes = readFileSync(path);
    return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) };
};
const options = {
    wasm_path: `${folder}/build/v86.wasm`,
    memory_size: job.memory << 20,
    vga_memory_size: 8 << 20,
    bios: image(job.bios),
    vga_bios: image(job.vgabios),
    autostart: true,
    disable_keyboard: true,
    disable_mouse: true,
    disable_speaker: true,
};
if (job.multiboot) options.multiboot = image(job.kernel);
else options.bzimage = image(job.kernel);
if (job.initrd) options.initrd = image(job.initrd);
if (job.append) options.cmdline = job.append;
if (job.disk) options.hda = image(job.disk);

const emulator = new V86(options);
let line = "";
emulator.add_listener("serial0-output-byte", (byte) => {
    line += String.fromCharCode(byte);
    if (byte === 10) {
        process.stdout.write(line);
        line = "";
    }
});
process.stdout.on("error", () => process.exit(0));
