/* SPDX-License-Identifier: Apache-2.0 */
/* programs - how a program finds what cloisterd gave it (ARCHITECTURE.md). */
#ifndef CL_BASE_PROGRAMS_H
#define CL_BASE_PROGRAMS_H

#define PROGRAM_CONTROL_FD 3	/* channel to cloisterd */
#define PROGRAM_STATE_FD 4	/* own state directory */
/* further descriptors, by program */
#define API_UNIX_FD 5		/* listening run/cloister/api.sock */
#define API_TCP_FD 6		/* listening page address */
#define API_ETC_FD 7		/* etc/cloister, read only */
#define API_IMAGES_FD 8		/* images, read only */
#define API_LEDGER_FD 9		/* lib/ledger, read only (the api reads segments) */
#define API_WEB_FD 10		/* share/cloister/web: the pages, read only */
#define API_AGENTS_FD 11	/* share/cloister/agents: profiles and templates, read only */
#define API_ROUTES_FD 12	/* share/cloister/routes: shipped routes, read only */
#define MODEL_TCP_FD 5		/* cloister-model-sim: its listening socket */
/* spawner: 5 images directory */
#define SPAWNER_IMAGES_FD 5

/* arguments of every program: --uid N --gid N, then its own as --name=value */

#endif
