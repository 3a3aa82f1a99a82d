/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/*
 * Prints protobuf messages for people and scripts. It uses their descriptors, so that no message
 * needs its own code. Field names are as in the .proto file. Times and enums become text, bytes
 * hex, maps objects.
 */

/* New reference; NULL when memory is exhausted. */
json_t *message_to_json(const ProtobufCMessage *message);

/* For people, to stdout: "field  value" lines, lists of objects as tables, sizes as "1Gi". */
void message_print(const json_t *message);
