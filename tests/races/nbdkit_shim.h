/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the plugin's objects want of nbdkit, for programs that link them without it. Messages are
 * kept only if HK_RACES_SAY is set; waiting for the end is a flag.
 */
#ifndef HK_RACES_NBDKIT_SHIM_H
#define HK_RACES_NBDKIT_SHIM_H

/* As if nbdkit had been told to end: the engine's quit thread hears of it. */
void shim_quit(void);
/* As if it had just been started. */
void shim_again(void);

#endif
