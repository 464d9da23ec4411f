/*
 * pause is the first process of every pod. It holds the pod's namespaces, and when
 * containers of a pod share their processes it is their PID 1: it reaps what they
 * leave behind. It ends on SIGINT and SIGTERM.
 *
 * It has no C library and uses no stack to speak of: there is one in every pod.
 */
#define SYS_rt_sigprocmask 14
#define SYS_wait4 61
#define SYS_exit 60
#define SYS_rt_sigtimedwait 128

#define SIG_BLOCK 0
#define SIGINT 2
#define SIGTERM 15
#define SIGCHLD 17
#define WNOHANG 1

static long call(long number, long a, long b, long c, long d)
{
	long result;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}

/* The signals are blocked and then waited for: nothing can be missed, and no handler
 * has to run. A blocked signal reaches PID 1 even though it has no handler. */
void _start(void)
{
	unsigned long set = 1UL << (SIGINT - 1) | 1UL << (SIGTERM - 1) | 1UL << (SIGCHLD - 1);

	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof(set));
	for (;;) {
		long signal = call(SYS_rt_sigtimedwait, (long)&set, 0, 0, sizeof(set));
		if (signal == SIGINT || signal == SIGTERM)
			call(SYS_exit, 0, 0, 0, 0);
		while (call(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}
