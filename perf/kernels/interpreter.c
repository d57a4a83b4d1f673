/* A stack machine that runs a small program: one switch, a jump table, a load and a store an instruction. */
#include "runtime.h"

enum { ROUNDS = 600, LIMIT = 12000 };

const char kernel_name[] = "interpreter";

enum opcode { PUSH, LOAD, STORE, ADD, SUB, MUL, AND, XOR, LESS, JUMP, JUMP_IF_ZERO, SHIFT, SWAP, DUP, HALT };

/* Collatz steps for n = 1, 2, ..., up to LIMIT instructions. */
static const int16_t program[] = {
    /*  0 */ PUSH, 1, STORE, 0,
    /*  4 */ LOAD, 0, STORE, 1,
    /*  8 */ LOAD, 1, PUSH, 1, XOR, JUMP_IF_ZERO, 45,
    /* 15 */ LOAD, 2, PUSH, 1, ADD, STORE, 2,
    /* 22 */ LOAD, 1, DUP, PUSH, 1, AND, JUMP_IF_ZERO, 38,
    /* 30 */ PUSH, 3, MUL, PUSH, 1, ADD, JUMP, 41,
    /* 38 */ PUSH, 1, SHIFT,
    /* 41 */ STORE, 1, JUMP, 8,
    /* 45 */ LOAD, 0, PUSH, 1, ADD, STORE, 0, JUMP, 4,
};

static uint32_t run(uint32_t start, uint32_t limit)
{
    uint32_t stack[16], variables[4] = {0};
    uint32_t *top = stack;
    const int16_t *at = program;
    variables[3] = start;
    for (;;) {
        if (!limit--)
            return variables[2] * 31 + variables[1] * 7 + variables[0] + start;
        switch (*at++) {
        case PUSH: *top++ = *at++; break;
        case LOAD: *top++ = variables[*at++]; break;
        case STORE: variables[*at++] = *--top; break;
        case ADD: top--; top[-1] += top[0]; break;
        case SUB: top--; top[-1] -= top[0]; break;
        case MUL: top--; top[-1] *= top[0]; break;
        case AND: top--; top[-1] &= top[0]; break;
        case XOR: top--; top[-1] ^= top[0]; break;
        case LESS: top--; top[-1] = top[-1] < top[0]; break;
        case SHIFT: top--; top[-1] >>= top[0]; break;
        case SWAP: { uint32_t item = top[-1]; top[-1] = top[-2]; top[-2] = item; break; }
        case DUP: *top = top[-1]; top++; break;
        case JUMP: at = program + *at; break;
        case JUMP_IF_ZERO: at = *--top ? at + 1 : program + *at; break;
        default: return 0;
        }
    }
}

uint32_t kernel(void)
{
    uint32_t sum = 0;
    for (uint32_t round = 0; round < ROUNDS; round++)
        sum = mix(sum, run(round, LIMIT * (1 + round % 5)));
    return sum;
}
