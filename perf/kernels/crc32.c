/* CRC-32 (IEEE 802.3) with a table: a chain of dependent loads. */
#include "runtime.h"

enum { SIZE = 65536, ROUNDS = 700 };

const char kernel_name[] = "crc32";
static uint32_t table[256];
static uint8_t data[SIZE];

uint32_t kernel(void)
{
    uint32_t crc = 0, state = 521288629u;
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t value = n;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
        table[n] = value;
    }
    for (int n = 0; n < SIZE; n++)
        data[n] = next_random(&state);
    for (int round = 0; round < ROUNDS; round++) {
        crc = ~crc;
        for (int n = 0; n < SIZE; n++)
            crc = crc >> 8 ^ table[(crc ^ data[n]) & 0xFF];
        crc = ~crc;
    }
    return crc;
}
