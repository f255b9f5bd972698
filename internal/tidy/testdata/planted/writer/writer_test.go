package writer

import _ "example.com/planted/query"
