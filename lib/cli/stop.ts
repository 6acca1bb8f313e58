/** Ctrl-C ends the current step and then the command; a second one ends the process at once. */
export function stopOnSignal(output: NodeJS.WriteStream): { signal: AbortSignal; release(): void } {
  const controller = new AbortController()
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(130)
    controller.abort()
    output.write('\nstopping after this step (again to stop at once)\n')
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return {
    signal: controller.signal,
    release() {
      process.off('SIGINT', onSignal)
      process.off('SIGTERM', onSignal)
    },
  }
}

/** How a command ends that was stopped, as shells have it for Ctrl-C. */
export const stoppedCode = 130
