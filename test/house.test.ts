/** The rooms of `lib/` and `native/`: docs/architecture.md. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { filesIn } from '../scripts/setup/fingerprint.js'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The files that a file imports for more than their types. */
function importsOf(file: string): string[] {
  const source = ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest)
  return source.statements.filter(isForValues).flatMap(({ moduleSpecifier }) => {
    const target = (moduleSpecifier as ts.StringLiteral | undefined)?.text
    return target?.startsWith('.') ? [relative(root, resolve(root, dirname(file), target))] : []
  })
}

function isForValues(
  statement: ts.Statement,
): statement is (ts.ImportDeclaration | ts.ExportDeclaration) & ts.Statement {
  if (ts.isExportDeclaration(statement)) {
    const { exportClause: names, isTypeOnly } = statement
    return (
      !isTypeOnly && !(names && ts.isNamedExports(names) && names.elements.every(each => each.isTypeOnly))
    )
  }
  if (!ts.isImportDeclaration(statement)) return false
  const clause = statement.importClause
  if (clause === undefined) return true
  const names = clause.namedBindings
  const onlyTypes = names && ts.isNamedImports(names) && names.elements.every(each => each.isTypeOnly)
  return (
    clause.phaseModifier !== ts.SyntaxKind.TypeKeyword && !(onlyTypes === true && clause.name === undefined)
  )
}

/** `lib/nn/conv.ts` is in `nn`; what lies beside the rooms is in none. */
function roomOf(file: string): string | null {
  const [, room, ...inside] = file.split('/')
  return inside.length === 0 ? null : room!
}

describe('the rooms', () => {
  it('of lib/ import each other without circles, but for types', () => {
    const uses = new Map<string, Map<string, string>>()
    for (const file of filesIn(root, 'lib', /(?<!\.d)\.(ts|js)$/))
      for (const target of importsOf(file)) {
        const [from, to] = [roomOf(file), roomOf(target)]
        if (from === null || to === null || from === to) continue
        if (!uses.has(from)) uses.set(from, new Map())
        uses.get(from)!.set(to, `${file} imports ${target}`)
      }
    expect(uses.size).toBeGreaterThan(10)

    const reached = (start: string): Set<string> => {
      const seen = new Set<string>()
      const waiting = [start]
      for (let room = waiting.pop(); room !== undefined; room = waiting.pop())
        for (const next of uses.get(room)?.keys() ?? [])
          if (!seen.has(next)) {
            seen.add(next)
            waiting.push(next)
          }
      return seen
    }
    const circular = [...uses].flatMap(([from, targets]) =>
      [...targets].filter(([to]) => reached(to).has(from)).map(([, why]) => why),
    )
    expect(circular).toEqual([])
  })

  it('hold all files but the few that every room needs', () => {
    const beside = (folder: string) =>
      readdirSync(join(root, folder), { withFileTypes: true })
        .filter(entry => entry.isFile())
        .map(({ name }) => name)
    expect(beside('lib').sort()).toEqual(['errors.ts', 'index.ts'])
    expect(beside('native').sort()).toEqual([
      'addon.cc',
      'clones.h',
      'compat.h',
      'environment.h',
      'errors.cc',
      'errors.h',
      'loader.c',
      'precompiled.h',
      'text.cc',
      'text.h',
    ])
  })
})
