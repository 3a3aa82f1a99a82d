/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/sim/collateral_options.h"

#include <stdio.h>

/* The answers of a PCCS, and their faults. tests/sim/pccs.c sends them. */

enum pccs_transport {
    PCCS_PLAIN,
    PCCS_TRUNCATED, /* the connection ends after half of the announced length */
    PCCS_HUGE,      /* PCCS_HUGE_LEN bytes of spaces */
    PCCS_REDIRECT,  /* to the same page, below PCCS_ELSEWHERE */
    PCCS_HANG,      /* no answer until the fault is changed */
    PCCS_SLOW,      /* right, but late */
};
#define PCCS_HUGE_LEN  ((uint64_t)64 * 1024 * 1024)
#define PCCS_ELSEWHERE "/elsewhere"

struct pccs_fault;
const struct pccs_fault *pccs_fault_find(const char *name); /* NULL: no such fault */
const char *pccs_fault_name(const struct pccs_fault *fault);
enum pccs_transport pccs_fault_transport(const struct pccs_fault *fault);
void pccs_print_faults(void);

/* The answer to one request; chain goes into its header and is not encoded yet. */
struct pccs_answer {
    unsigned status;
    const char *type, *chain_header;
    char *chain;
    uint8_t *body;
    size_t len;
};
void pccs_answer_free(struct pccs_answer *answer);
#define auto_pccs_answer CLEANUP(pccs_answer_free)

/* A request: its path, and where its arguments come from (NULL: not given). */
struct pccs_request {
    const char *path;
    const char *(*argument)(void *cookie, const char *name);
    void *cookie;
};
struct pccs_answer pccs_answer_make(const struct sim_pki *pki,
                                    const struct collateral_options *options,
                                    const struct pccs_fault *fault,
                                    const struct pccs_request *request);
