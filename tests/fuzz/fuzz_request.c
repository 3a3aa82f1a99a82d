/* SPDX-License-Identifier: Apache-2.0 */
#include "base/macro.h"
#include "blockd/request.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/*
 * The first byte chooses the kind of packet, the rest is laid over a good one from an offset that
 * the next two bytes choose. An accepted packet has strings that end and values in range.
 */

static union {
    struct block_request request;
    struct block_message message;
    struct block_answer answer;
    unsigned char bytes[sizeof(struct block_request) + sizeof(struct block_message)];
} packet;

static size_t make_good(unsigned kind)
{
    for (size_t i = 0; i < sizeof(packet.bytes); i++)
        packet.bytes[i] = 0;
    switch (kind) {
    case 3:
        packet.message.kind = BLOCK_DATA;
        packet.message.data.part = BLOCK_DATA_QUOTE;
        packet.message.data.len = BLOCK_DATA_MAX;
        return sizeof(packet.message);
    case 0:
        packet.request.operation = BLOCK_STAGE;
        return sizeof(packet.request);
    case 1:
        packet.message.kind = BLOCK_DONE;
        return sizeof(packet.message);
    default:
        packet.answer.ok = true;
        return sizeof(packet.answer);
    }
}

static void must(bool holds)
{
    if (!holds)
        abort();
}

#define ENDS(text) (strnlen(text, sizeof(text)) < sizeof(text))

static bool receive_request(int fd, struct error *err)
{
    static struct block_request request;

    if (!block_receive_request(fd, &request, err))
        return false;
    must(ENDS(request.path) && ENDS(request.path2) && ENDS(request.mount_flags));
    must(request.operation > 0 && request.operation < BLOCK_OPERATION_COUNT);
    return true;
}

static bool receive_message(int fd, struct error *err)
{
    static struct block_message message;

    if (!block_receive_message(fd, 0, &message, err))
        return false;
    must(ENDS(message.err.text) && ENDS(message.volume_id));
    if (message.kind == BLOCK_DATA)
        must(message.data.len > 0 && message.data.len <= BLOCK_DATA_MAX);
    must(message.change.len <= RECORD_ENCODED_MAX && message.err.code < ERROR_CODE_COUNT);
    return true;
}

static bool receive_answer(int fd, struct error *err)
{
    static struct block_answer answer;

    if (!block_receive_answer(fd, &answer, err))
        return false;
    must(ENDS(answer.err.text));
    must(answer.record.len <= RECORD_ENCODED_MAX);
    return true;
}

static bool (*const receivers[])(int fd, struct error *err) = { receive_request, receive_message,
                                                                receive_answer, receive_message };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    int ends[2];

    if (len < 3 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return 0;
    auto_close int ours = ends[0], theirs = ends[1];
    unsigned kind = bytes[0] % ARRAY_LEN(receivers);
    size_t size = make_good(kind);
    size_t offset = ((size_t)bytes[1] << 8 | bytes[2]) % size;
    for (size_t i = 3; i < len && offset + i - 3 < size; i++)
        packet.bytes[offset + i - 3] = bytes[i];
    struct error err = ERROR_INIT;
    must(send(ours, packet.bytes, size, 0) == (ssize_t)size);
    must(receivers[kind](theirs, &err) || err.code == ERROR_INVALID_ARGUMENT);
    return 0;
}
