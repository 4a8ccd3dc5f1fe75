{# A condition that holds for facts this model hasn't seen: everything on the first build, and then
   each ledger's facts above the highest `last_seq` already here. The limits are written as
   literals, so that the engine can skip files by their `seq` range. #}
{% macro new_since(seq='seq', ledger='ledger') -%}
    {%- if not is_incremental() -%}
        true
    {%- else -%}
        {%- set seen = run_query(
            'select ledger, max(last_seq) as seq from ' ~ this ~ ' group by ledger order by ledger'
        ) -%}
        {%- if execute and seen.rows | length > 0 -%}
            (
            {%- for row in seen.rows -%}
                ({{ ledger }} = '{{ row[0] }}' and {{ seq }} > {{ row[1] }}) or {% endfor -%}
            {{ ledger }} not in (
            {%- for row in seen.rows -%}
                '{{ row[0] }}'{{ ', ' if not loop.last }}
            {%- endfor -%}))
        {%- else -%}
            true
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
