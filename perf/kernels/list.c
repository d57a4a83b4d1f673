/* Walking a linked list in a scattered order, and relinking it. */
#include "runtime.h"

enum { SIZE = 32768, ROUNDS = 1500 };

struct node {
    struct node *next;
    uint32_t value;
};

const char kernel_name[] = "list";
static struct node nodes[SIZE];

uint32_t kernel(void)
{
    uint32_t sum = 0;
    for (uint32_t n = 0; n < SIZE; n++) {
        nodes[n].next = &nodes[(n * 12345 + 6789) % SIZE];
        nodes[n].value = n * 2654435761u;
    }
    struct node *node = nodes;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t n = 0; n < SIZE; n++) {
            sum += node->value;
            node->value ^= sum;
            node = node->next;
        }
        struct node *other = node->next;
        uint32_t value = node->value;
        node->value = other->value;
        other->value = value;
        node = other;
    }
    return sum;
}
