/** Writes `recipe.schema.json`, with which editors complete recipes: `npm run generate:recipes`. */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { format } from 'prettier'
import { recipeSchema } from '../lib/index.js'

const file = fileURLToPath(new URL('../recipe.schema.json', import.meta.url))
writeFileSync(file, await format(JSON.stringify(await recipeSchema()), { parser: 'json', printWidth: 110 }))
