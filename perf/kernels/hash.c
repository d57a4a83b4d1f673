/* An open-addressing hash table: inserts, look-ups and deletions of words, FNV-1a over their bytes. */
#include "runtime.h"

enum { SLOTS = 16384, KEYS = 8192, ROUNDS = 400, EMPTY = 0, DELETED = 0xFFFFFFFF };

const char kernel_name[] = "hash";
static struct {
    uint32_t key, value;
} slots[SLOTS];

static uint32_t hash(uint32_t key)
{
    uint32_t h = 2166136261u;
    for (int n = 0; n < 4; n++, key >>= 8)
        h = (h ^ (key & 0xFF)) * 16777619u;
    return h ^ h >> 16;
}

/* The slot that holds the key, or the empty one at which it would have been found. */
static uint32_t find(uint32_t key)
{
    uint32_t at = hash(key) % SLOTS;
    while (slots[at].key != key && slots[at].key != EMPTY)
        at = (at + 1) % SLOTS;
    return at;
}

uint32_t kernel(void)
{
    uint32_t sum = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t state = 362436069u + round;
        for (int n = 0; n < SLOTS; n++)
            slots[n].key = EMPTY;
        for (uint32_t n = 0; n < KEYS; n++) {
            uint32_t key = next_random(&state) >> 1 | 1;
            uint32_t at = find(key);
            slots[at].key = key;
            slots[at].value = n;
        }
        state = 362436069u + round;
        for (uint32_t n = 0; n < KEYS; n++) {
            uint32_t at = find(next_random(&state) >> 1 | 1);
            sum = mix(sum, slots[at].value);
            if (n % 4 == 0)
                slots[at].key = DELETED;
        }
    }
    return sum;
}
