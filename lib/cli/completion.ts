/** `alambic completion`: words for the shell's Tab key. */
import { Argument, Command } from 'commander'

const shells = ['bash', 'zsh', 'fish'] as const

/** @param program whose commands and options are completed */
export function completionCommand(program: Command): Command {
  return new Command('completion')
    .description(
      'print a script that completes commands and options; for example: source <(alambic completion bash)',
    )
    .addArgument(new Argument('<shell>').choices(shells))
    .action((shell: (typeof shells)[number]) => {
      process.stdout.write(scripts[shell](wordsOf(program)))
    })
}

interface Words {
  command: string
  description: string
  options: { flag: string; description: string }[]
}

function wordsOf(program: Command): Words[] {
  return program.commands.map(command => ({
    command: command.name(),
    description: command.description(),
    options: [
      ...command.options.flatMap(({ long, description }) => (long ? [{ flag: long, description }] : [])),
      { flag: '--help', description: 'display help for command' },
    ],
  }))
}

const scripts: Record<(typeof shells)[number], (words: readonly Words[]) => string> = {
  bash: words => `# Completion of alambic for bash: source <(alambic completion bash)
_alambic() {
  local word=\${COMP_WORDS[COMP_CWORD]} command=\${COMP_WORDS[1]} options=
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W '${words.map(({ command }) => command).join(' ')}' -- "$word"))
    return
  fi
  case $command in
${words.map(({ command, options }) => `    ${command}) options='${options.map(({ flag }) => flag).join(' ')}' ;;`).join('\n')}
  esac
  case $word in
    -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}
complete -o filenames -F _alambic alambic
`,
  zsh: words => `#compdef alambic
# Completion of alambic for zsh: source <(alambic completion zsh)
_alambic() {
  local -a commands
  commands=(
${words.map(({ command, description }) => `    ${quoted(`${command}:${description}`)}`).join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case $words[2] in
${words
  .map(
    ({ command, options }) =>
      `    ${command}) _arguments ${options.map(({ flag, description }) => quoted(`${flag}[${description.replace(/[[\]]/g, '')}]`)).join(' ')} '*:file:_files' ;;`,
  )
  .join('\n')}
  esac
}
compdef _alambic alambic
`,
  fish: words => `# Completion of alambic for fish: alambic completion fish | source
${words
  .flatMap(({ command, description, options }) => [
    `complete -c alambic -n __fish_use_subcommand -a ${command} -d ${quoted(description)}`,
    ...options.map(
      each =>
        `complete -c alambic -n '__fish_seen_subcommand_from ${command}' -l ${each.flag.slice(2)} -d ${quoted(each.description)}`,
    ),
  ])
  .join('\n')}
`,
}

/** For all three shells. */
function quoted(text: string): string {
  return `'${text.replace(/'/g, "'\\''")}'`
}
