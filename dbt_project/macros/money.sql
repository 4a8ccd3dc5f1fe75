{# Sums of minor units. DuckDB's sum(bigint) is HUGEINT, which Parquet would turn into DOUBLE. #}
{% macro sum_money(amount) -%}
    cast(sum({{ wide(amount) }}) as decimal(38, 0))
{%- endmacro %}

{# A running sum of minor units over the window given. #}
{% macro running_money(amount, window) -%}
    cast(sum({{ wide(amount) }}) over ({{ window }}) as decimal(38, 0))
{%- endmacro %}

{# What debits and credits add to a balance, which is positive on the account's normal side. #}
{% macro on_normal_side(debits, credits, side='accounts.normal_side') -%}
    case when {{ side }} = 'debit' then {{ debits }} - {{ credits }} else {{ credits }} - {{ debits }} end
{%- endmacro %}

{# Minor units for people: 123450 with exponent 2 and USD gives "1,234.50 USD". #}
{% macro money_text(amount, exponent='exponent', currency='currency') -%}
    {%- set minor = 'abs(cast(' ~ amount ~ ' as decimal(38, 0)))' -%}
    {%- set unit = "cast(concat('1', repeat('0', " ~ exponent ~ ")) as decimal(38, 0))" -%}
    concat(
        case when {{ amount }} < 0 then '-' else '' end,
        {{ grouped_digits(quotient(minor, unit)) }},
        case when {{ exponent }} > 0
            then concat(
                '.', lpad(cast({{ minor }} % {{ unit }} as {{ dbt.type_string() }}), {{ exponent }}, '0')
            )
            else '' end,
        ' ',
        {{ currency }}
    )
{%- endmacro %}

{# How many times `amount` holds `unit`, with four places, in integers all the way; at most
   99,999.9999. #}
{% macro score_ratio(amount, unit) -%}
    cast(
        cast(
            least({{ quotient('cast(' ~ amount ~ ' as decimal(38, 0)) * 10000', unit) }}, 999999999)
            as decimal(9, 0)
        ) * cast(0.0001 as decimal(5, 4))
        as decimal(9, 4)
    )
{%- endmacro %}
