{# A condition on `ledger` and `seq` of facts that the rules have not looked at: all of a ledger's where they have
   not, or looked by other rules. Spark looks at everything each time: it has nobody who waits. #}
{% macro not_looked_at() -%}
    {%- set looked = adapter.get_relation(this.database, this.schema, 'int_rules_looked') -%}
    {%- set known = [] -%}
    {%- if execute and looked and target.type == 'duckdb' and not flags.FULL_REFRESH -%}
        {%- set known = run_query(
            'select looked.ledger, looked.last_seq from ' ~ looked ~ ' as looked inner join ('
            ~ 'select ledger, ' ~ rules_as_they_are() ~ ' as rules from '
            ~ ref('int_rule_parameters') ~ ' group by ledger) as present'
            ~ ' on looked.ledger = present.ledger and looked.rules = present.rules order by 1'
        ).rows -%}
    {%- endif -%}
    {{ past_limits(known, 'seq', facts=ref('int_rule_parameters')) }}
{%- endmacro %}

{# All parameters of a ledger and the code that applies them, as one text. #}
{% macro rules_as_they_are() -%}
    {%- set names = ['rule', 'version', 'currency', 'name', 'value', 'valid_from', 'valid_to'] -%}
    {%- set texts = [] -%}
    {%- for name in names -%}
        {%- do texts.append("coalesce(" ~ as_text(name) ~ ", '')") -%}
    {%- endfor -%}
    md5(concat('{{ var("code_version") }}', {{ joined_texts("concat(" ~ texts | join(", '|', ") ~ ")") }}))
{%- endmacro %}

{# Before new evidence is added: what is no longer evidence of a subject goes, too. #}
{% macro forget_touched() -%}
    {%- if is_incremental() -%}
        delete from {{ this }} as known
        where exists (
            select 1
            from {{ ref('int_touched_subjects') }} as touched
            where touched.ledger = known.ledger and touched.subject = known.subject
        )
    {%- endif -%}
{%- endmacro %}
