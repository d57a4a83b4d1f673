/* What Dhrystone stands for: records, pointers to them, strings compared and copied, small calls, enumerations. */
#include "runtime.h"

enum { RECORDS = 16, NAME = 32, ROUNDS = 2000000 };

enum colour { RED, GREEN, BLUE, BLACK };

struct record {
    struct record *next;
    enum colour colour;
    int32_t number;
    char name[NAME];
};

const char kernel_name[] = "records";
static struct record records[RECORDS];
static int32_t numbers[64];
static int32_t board[8][8];

__attribute__((noinline)) static int compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}

__attribute__((noinline)) static enum colour after(enum colour colour, int32_t number)
{
    switch (colour) {
    case RED:
        return number > 100 ? GREEN : BLACK;
    case GREEN:
        return number & 1 ? BLUE : RED;
    case BLUE:
        return BLACK;
    default:
        return number % 3 ? GREEN : RED;
    }
}

__attribute__((noinline)) static void touch(struct record *record, int32_t number)
{
    struct record *next = record->next;
    struct record saved = *next;
    next->number = record->number + number % 7;
    next->colour = after(record->colour, next->number);
    if (compare(record->name, next->name) < 0)
        next->number ^= 5;
    else
        record->number += next->number / 3;
    record->next = saved.next == record ? next : saved.next->next;
    if (record->next == record)
        record->next = next;
    board[number & 7][record->colour] += next->number;
    numbers[number & 63] = board[number & 7][next->colour] - saved.number;
}

uint32_t kernel(void)
{
    uint32_t sum = 0;
    for (int n = 0; n < RECORDS; n++) {
        records[n] = (struct record){&records[(n + 5) % RECORDS], n & 3, n * 11, "a record with a name, number  "};
        records[n].name[29] = 'a' + n * 7 % 16;
    }
    for (int32_t round = 0; round < ROUNDS; round++) {
        touch(&records[round % RECORDS], round);
        sum = mix(sum, numbers[round & 63]);
    }
    return sum;
}
