/* Reads MEBIBYTES from the first hard disk by PIO (ATA-4, READ SECTORS), after the line "@disk". */
#include "runtime.h"

const char kernel_name[] = "disk";

enum { COM1 = 0x3F8, LINE_STATUS = COM1 + 5, EMPTY = 0x20 };
enum { DATA = 0x1F0, COUNT = 0x1F2, LBA = 0x1F3, DEVICE = 0x1F6, COMMAND = 0x1F7, STATUS = 0x1F7 };
enum { READ_SECTORS = 0x20, BSY = 0x80, DRQ = 0x08, ERR = 0x01, LBA_MODE = 0xE0, SECTOR = 512, AT_ONCE = 128 };

static void print(const char *text)
{
    for (; *text; text++) {
        while (!(in8(LINE_STATUS) & EMPTY))
            ;
        out8(COM1, *text);
    }
}

uint32_t kernel(void)
{
    static uint32_t buffer[SECTOR / 4];
    uint32_t sum = 0;
    print("\n@disk\n");
    for (uint32_t at = 0; at < MEBIBYTES * ((1u << 20) / SECTOR); at += AT_ONCE) {
        while (in8(STATUS) & BSY)
            ;
        out8(DEVICE, LBA_MODE | at >> 24);
        out8(COUNT, AT_ONCE);
        for (int n = 0; n < 3; n++)
            out8(LBA + n, at >> 8 * n);
        out8(COMMAND, READ_SECTORS);
        for (int sector = 0; sector < AT_ONCE; sector++) {
            uint8_t status;
            do
                status = in8(STATUS);
            while (status & BSY || !(status & (DRQ | ERR)));
            if (status & ERR)
                return 0;
            void *to = buffer;
            uint32_t words = SECTOR / 2;
            __asm__ volatile("rep insw" : "+D"(to), "+c"(words) : "d"(DATA) : "memory");
            for (int n = 0; n < SECTOR / 4; n++)
                sum = mix(sum, buffer[n]);
        }
    }
    return sum;
}
