/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/worker.h"
#include "tests/unit/record/broker_end.h"

/*
 * A worker's conversation with a front that was taken over, in one process and without threads. The
 * program is linked with --wrap=block_send_message: the front acts while the worker sends its
 * question, and leaves its answers in the socket, from which the worker's own code reads them. Behind
 * the front is an honest broker (the real broker's rules, signatures and proofs), which the front may
 * ask for anything. In place of the operations there is one that asks what a stage, an unstage or an
 * expand asks, and notes what it would have done.
 */
enum lie {
    LIE_NONE,
    LIE_MUTATE,         /* a few bits of the answer are changed */
    LIE_REPLAY,         /* an older answer */
    LIE_OTHER_QUESTION, /* the broker's answer to another question with the worker's nonce */
    LIE_OTHER_NONCE,    /* the broker's answer to the same question with another nonce */
    LIE_OTHER_VOLUME,
    LIE_OTHER_BOOT,    /* the broker gave the volume to another boot, or node */
    LIE_OTHER_KEY,     /* the broker sealed to another key */
    LIE_OTHER_SECRET,  /* the honest answer, but with a secret of the front's choice */
    LIE_OWN_SIGNATURE, /* record and secret of the front's choice, signed by its own CA */
    LIE_MIXED,         /* the record of one answer with the signature of another */
    LIE_UNSIGNED,
    LIE_FORGED_RECORD, /* the honest answer, but with a record of the front's choice */
    LIE_CLOSED,        /* hangs up */
    LIE_SHORT,         /* a packet of another size */
    LIE_TWICE,         /* one more answer waits for the next question */
    LIE_REFUSE,        /* an error without sense */
    LIE_GROWN,         /* the front has the record grown, which it may, while the worker uses it */
    LIE_GIVES_UP,      /* the front gives the format up, while the worker formats */
    LIE_COUNT,
    LIE_LATE /* the answer comes when the format's time is over; never by chance, because it waits */
};

/* What the worker would have done. */
struct deeds {
    bool opened, formatted, opened_for_writing, grown, gave_up, renewed;
    unsigned changes;
};

/* Which lie comes next. The default picks one from the bytes of lying_front_run(). */
struct front_script {
    const uint8_t *bytes; /* all choices; when they are used up, the front is honest */
    size_t len;
    const enum lie *lies; /* for each question in turn; NULL: from bytes */
    size_t n_lies;
    bool format_fails; /* the worker gives it up */
    bool contested;    /* another node waits for the lease that is renewed */
};

/* Ends the program when the worker accepted an answer that the broker did not sign for the question,
 * or did anything that it may not do on the strength of it. */
void lying_front_run(enum block_operation operation, bool is_ready, bool read_only,
                     const struct front_script *script, struct deeds *out, struct error *err);
/* The number of answers that workers accepted so far, honest ones, and of those refused. */
extern size_t lying_front_accepted, lying_front_refused;
